# The short functions that are called often, inlined; the others are in protobuf.pyx.

from libc.stdint cimport uint8_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* Eight bytes as protobuf has them: the lowest first, on any machine. */
    static inline uint64_t tss_fixed64(const uint8_t *at) {
        uint64_t value;
        memcpy(&value, at, 8);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        value = __builtin_bswap64(value);
    #endif
        return value;
    }
    static inline void tss_write_fixed64(uint8_t *at, uint64_t value) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        value = __builtin_bswap64(value);
    #endif
        memcpy(at, &value, 8);
    }
    static inline uint64_t tss_differing(const uint8_t *one, const uint8_t *other) {
        uint64_t mine, theirs;
        memcpy(&mine, one, 8);
        memcpy(&theirs, other, 8);
        return mine ^ theirs;
    }
    /* Whether two texts of the same size are equal. Faster than a call of memcmp for a few dozen bytes. */
    static inline int tss_is_same(const uint8_t *one, const uint8_t *other, uint64_t size) {
        if (size < 8) {
            while (size--)
                if (one[size] != other[size])
                    return 0;
            return 1;
        }
        uint64_t last = size - 8, at = 0;
        if (size > 64)
            return memcmp(one, other, size) == 0;
        for (; at < last; at += 8)
            if (tss_differing(one + at, other + at))
                return 0;
        return !tss_differing(one + last, other + last);
    }
    """
    uint64_t fixed64_at "tss_fixed64" (const uint8_t *at) noexcept nogil
    void write_fixed64 "tss_write_fixed64" (uint8_t *at, uint64_t value) noexcept nogil
    bint is_same "tss_is_same" (const uint8_t *one, const uint8_t *other, uint64_t size) noexcept nogil

ctypedef const uint8_t *Pos

cdef enum:
    VARINT = 0
    FIXED64 = 1
    LENGTH = 2
    GROUP = 3
    END_GROUP = 4
    FIXED32 = 5

cdef enum:
    MAX_DEPTH = 100  # nested messages and groups, as in protobuf

cdef enum Trouble:
    NO_TROUBLE
    TOO_LONG
    CUT_OFF
    LONG_VARINT
    BAD_TAG
    FIELD_ZERO
    WIRE_TYPE
    GROUP_NOT_OPEN
    OTHER_GROUP
    GROUP_NOT_CLOSED
    TOO_DEEP
    VALUE_TOO_DEEP
    NO_MEMORY


cdef struct Failure:
    Trouble what
    Pos where
    uint64_t a
    uint64_t b


cdef inline Pos fail(Failure *failure, Trouble what, Pos where, uint64_t a=0, uint64_t b=0) noexcept nogil:
    failure.what, failure.where, failure.a, failure.b = what, where, a, b
    return NULL


cdef Pos long_varint(Failure *failure, Pos at, Pos stop, uint64_t *value) noexcept nogil
cdef Pos long_head(Failure *failure, Pos at, Pos stop, uint64_t *value) noexcept nogil
cdef Pos long_skip(Failure *failure, Pos at, Pos stop, uint64_t tag, int depth) noexcept nogil


cdef inline Pos varint(Failure *failure, Pos at, Pos stop, uint64_t *value) noexcept nogil:
    if at != stop and at[0] < 0x80:
        value[0] = at[0]
        return at + 1
    return long_varint(failure, at, stop, value)


cdef inline Pos head(Failure *failure, Pos at, Pos stop, uint64_t *value) noexcept nogil:
    """The same as `long_head`, fast for one or two bytes, which nearly all tags and lengths have."""
    if at[0] < 0x80:
        value[0] = at[0]
        return at + 1
    if stop - at > 1 and at[1] < 0x80:
        value[0] = at[0] & 0x7F | <uint64_t> at[1] << 7
        return at + 2
    return long_head(failure, at, stop, value)


cdef inline Pos content(Failure *failure, Pos at, Pos stop, Pos *end) noexcept nogil:
    """The start of a length-delimited field's content. `at` is the place where its length is expected.

    `end` is set to the end of the content. Both are NULL after an error.
    """
    cdef uint64_t size = 0
    cdef Pos body
    end[0] = NULL
    if at == stop:
        return fail(failure, CUT_OFF, at)
    body = head(failure, at, stop, &size)
    if body == NULL:
        return NULL
    if size > <uint64_t> (stop - body):
        return fail(failure, TOO_LONG, at, size, size - <uint64_t> (stop - body))
    end[0] = body + size
    return body


cdef inline Pos fixed64(Failure *failure, Pos at, Pos stop, uint64_t *value) noexcept nogil:
    if stop - at < 8:
        return fail(failure, CUT_OFF, at)
    value[0] = fixed64_at(at)
    return at + 8


cdef inline Pos skip(Failure *failure, Pos at, Pos stop, uint64_t tag, int depth) noexcept nogil:
    """Skip an unknown field, whose tag was read. `depth` is the number of nested groups allowed here."""
    if tag & 7 == FIXED32 and tag >= 8 and stop - at >= 4:  # a span's flags, which nearly all spans have
        return at + 4
    return long_skip(failure, at, stop, tag, depth)
