# The functions of values.pyx that the scanner uses.

from libc.stdint cimport uint32_t, uint64_t

from tss.core.otlp.found cimport Chain, Hit, Keys, Scan, Trace
from tss.core.otlp.protobuf cimport Pos

cdef enum:
    SHARED_TEXTS = 256  # texts that a scanner keeps, to share one object among traces: 30 kB for texts of up to 64 bytes

    DEEP_BYTES = 256  # see nesting.py: a shorter value cannot be too deep

cdef enum Nested:  # the kinds of messages that may have nested values
    OF_RESOURCE
    OF_SCOPE
    OF_EVENT
    OF_LINK
    KEY_VALUE
    ANY_VALUE
    ARRAY
    MAP
    WITHOUT

cdef bint is_too_deep(Pos at, Pos stop, Nested kind) noexcept nogil
cdef uint32_t slot_of(const char *text, uint32_t size) noexcept nogil
cdef bint keep(Scan *s, Hit *hit, uint32_t ask, Chain *chain) noexcept nogil
cdef bint attribute(Scan *s, Keys *keys, Pos at, Pos stop, Chain *chain) noexcept nogil
cdef bint attributes(Scan *s, Keys *keys, uint64_t wanted, Pos start, Pos stop, Chain *chain) noexcept nogil
cdef tuple values_of(Scan *s, Trace *trace, list texts, list alive)
cdef list values_of_each_span(Scan *s, list texts, list alive)
