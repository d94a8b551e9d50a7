# The functions of values.pyx that the scanner uses.

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from tss.core.otlp.found cimport KEY_SLOTS, NONE, Asks, Hit, Kept, Keys, Scan, grow, hits
from tss.core.otlp.protobuf cimport LENGTH, Pos, is_same

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

cdef enum:  # in place of the number of a key
    UNASKED = -1
    NOT_SIMPLE = -2

cdef enum Outcome:
    READ
    NOT_READABLE
    OUT_OF_MEMORY

cdef bint is_too_deep(Pos at, Pos stop, Nested kind) noexcept nogil
cdef bint attribute(Scan *s, Keys *keys, Pos at, Pos stop, int32_t candidate, Kept *kept) noexcept nogil
cdef bint keep_plain(Scan *s, Asks *asks, uint64_t tag, Hit *hit, Kept *kept) noexcept nogil
cdef Outcome look_up(Scan *s, Asks *asks, Pos start, Pos stop, Kept *kept) noexcept nogil


cdef inline uint32_t slot_of(const char *text, uint32_t size) noexcept nogil:
    # The length and the last letter distinguish nearly all keys of one service, and cost nothing to compute.
    return (size * 7 + (<uint8_t> text[size - 1] if size else 0)) % KEY_SLOTS


cdef inline bint keep(Scan *s, Hit *hit, uint32_t ask, Kept *kept) noexcept nogil:
    """Append a copy of `hit`. False if there is no memory."""
    cdef uint32_t number = s.hits.used
    cdef Hit *kept_hit
    if number == s.hits.room and not grow(s, &s.hits):
        return False
    s.hits.used += 1
    kept_hit = hits(s) + number
    # Field by field: to copy all of a struct that was just written, the processor waits until it is in the cache.
    kept_hit.at, kept_hit.bits, kept_hit.type = hit.at, hit.bits, hit.type
    kept_hit.ask, kept_hit.next = ask, NONE
    if kept.first == NONE:
        kept.first = number
    else:
        hits(s)[kept.last].next = number
    kept.last = number
    return True


cdef inline int32_t candidate_of(Keys *keys, Pos at, Pos stop) noexcept nogil:
    """A quick look at an attribute with a short key and one short value: the key's number if it is asked for, or UNASKED.
    NOT_SIMPLE for an attribute of another form, valid or not."""
    cdef Pos key = at + 2, value
    cdef int32_t candidate
    if stop - at < 2 or at[0] != (1 << 3 | LENGTH) or at[1] >= 0x80 or at[1] > stop - key:
        return NOT_SIMPLE
    value = key + at[1]
    if stop - value < 2 or value[0] != (2 << 3 | LENGTH) or value[1] >= 0x80 or value[1] != stop - value - 2:
        return NOT_SIMPLE
    candidate = keys.slots[slot_of(<const char *> key, at[1])]
    while candidate >= 0:
        if keys.items[candidate].size == at[1] and is_same(<Pos> keys.items[candidate].text, key, at[1]):
            return candidate
        candidate = keys.items[candidate].next
    return UNASKED
