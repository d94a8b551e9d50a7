# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reads protobuf's wire format in C: each function takes a position before `stop`, and returns the position after the item.

After an error the position is NULL, and `Failure` says what was wrong and where. A position is moved only after a check of
how many bytes are left. Source: protobuf's encoding specification (protobuf.dev, "Encoding").
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    MAX_TAG_BYTES = 5
    MAX_VARINT_BYTES = 10


cdef Pos long_varint(Failure *failure, Pos at, Pos stop, uint64_t *value) noexcept nogil:
    cdef uint64_t total = 0
    cdef int number
    for number in range(MAX_VARINT_BYTES):
        if at + number == stop:
            return fail(failure, CUT_OFF, at)
        total |= <uint64_t> (at[number] & 0x7F) << 7 * number  # of the tenth byte only one bit counts, as in protobuf
        if at[number] < 0x80:
            value[0] = total
            return at + number + 1
    return fail(failure, LONG_VARINT, at)


cdef Pos long_head(Failure *failure, Pos at, Pos stop, uint64_t *value) noexcept nogil:
    """A tag or a length: a varint of up to five bytes and 32 bits."""
    cdef Pos after = varint(failure, at, stop, value)
    if after != NULL and (after - at > MAX_TAG_BYTES or value[0] > 0xFFFFFFFFu):
        return fail(failure, BAD_TAG, at)
    return after


cdef Pos skip_plain(Failure *failure, Pos at, Pos stop, uint32_t kind) noexcept nogil:
    """Skip the content of a field that is no group."""
    cdef uint64_t ignored = 0
    cdef Pos end = NULL
    if kind == LENGTH:
        content(failure, at, stop, &end)
        return end
    if kind == VARINT:
        return varint(failure, at, stop, &ignored)
    if kind == FIXED64:
        return fixed64(failure, at, stop, &ignored)
    if kind == FIXED32:
        return at + 4 if stop - at >= 4 else fail(failure, CUT_OFF, at)
    if kind == END_GROUP:
        return fail(failure, GROUP_NOT_OPEN, at)
    return fail(failure, WIRE_TYPE, at, kind)


cdef Pos skip_group(Failure *failure, Pos at, Pos stop, uint32_t tag, int depth) noexcept nogil:
    """Skip a group, whose start `tag` was read. Its fields may have number 0, which protobuf does not check."""
    cdef uint32_t[MAX_DEPTH] numbers
    cdef int open_groups = 0
    cdef uint64_t inner = tag
    cdef Pos start = at
    while True:
        if inner & 7 == GROUP:
            if open_groups == depth:
                return fail(failure, TOO_DEEP, at)
            numbers[open_groups] = inner >> 3
            open_groups += 1
        elif inner & 7 == END_GROUP:
            if numbers[open_groups - 1] != inner >> 3:
                return fail(failure, OTHER_GROUP, at)
            open_groups -= 1
            if open_groups == 0:
                return at
        else:
            at = skip_plain(failure, at, stop, inner & 7)
            if at == NULL:
                return NULL
        if at == stop:
            return fail(failure, GROUP_NOT_CLOSED, start)
        at = head(failure, at, stop, &inner)
        if at == NULL:
            return NULL


cdef Pos long_skip(Failure *failure, Pos at, Pos stop, uint64_t tag, int depth) noexcept nogil:
    if tag < 8:
        return fail(failure, FIELD_ZERO, at)
    if tag & 7 == GROUP:
        return skip_group(failure, at, stop, tag, depth)
    return skip_plain(failure, at, stop, tag & 7)
