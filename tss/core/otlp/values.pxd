# The functions of values.pyx that the scanner uses.

from libc.stdint cimport uint32_t, uint64_t

from tss.core.otlp.found cimport Asks, Hit, Kept, Keys, Scan
from tss.core.otlp.protobuf cimport Pos

cdef enum:
    DEEP_BYTES = 256  # see nesting.py: a shorter value cannot be too deep

cdef enum Nested:  # the kinds of messages that may have nested values
    OF_RESOURCE
    OF_SCOPE
    OF_EVENT
    OF_LINK
    KEY_VALUE
    ANY_VALUE
    ARRAY_VALUE
    MAP_VALUE
    WITHOUT

cdef enum Outcome:
    READ
    NOT_READABLE
    OUT_OF_MEMORY

cdef bint is_too_deep(Pos at, Pos stop, Nested kind) noexcept nogil
cdef uint32_t slot_of(const char *text, uint32_t size) noexcept nogil
cdef bint keep(Scan *s, Hit *hit, uint32_t ask, Kept *kept) noexcept nogil
cdef bint attribute(Scan *s, Keys *keys, Pos at, Pos stop, Kept *kept) noexcept nogil
cdef bint keep_plain(Scan *s, Asks *asks, uint64_t tag, Hit *hit, Kept *kept) noexcept nogil
cdef Outcome look_up(Scan *s, Asks *asks, Pos start, Pos stop, Kept *kept) noexcept nogil
