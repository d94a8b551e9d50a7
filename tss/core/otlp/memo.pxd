# A bounded memory of answers. The functions that are called for each value are inlined.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* The two halves of the product of 128 bits, added without carry: each bit of both factors affects all bits. */
    static inline uint64_t tss_folded(uint64_t one, uint64_t two) {
    #ifdef __SIZEOF_INT128__
        unsigned __int128 product = (unsigned __int128) one * two;
        return (uint64_t) product ^ (uint64_t) (product >> 64);
    #else
        uint64_t low = (uint32_t) one, high = one >> 32, other = (uint32_t) two, upper = two >> 32;
        uint64_t least = low * other, left = high * other, right = low * upper;
        uint64_t middle = (least >> 32) + (uint32_t) left + (uint32_t) right;
        uint64_t lower = (middle << 32) | (uint32_t) least;
        return lower ^ (high * upper + (left >> 32) + (right >> 32) + (middle >> 32));
    #endif
    }
    static inline uint64_t tss_eight(const uint8_t *at) {
        uint64_t value;
        memcpy(&value, at, 8);
        return value;
    }
    static inline uint64_t tss_four(const uint8_t *at) {
        uint32_t value;
        memcpy(&value, at, 4);
        return value;
    }
    """
    uint64_t folded "tss_folded" (uint64_t one, uint64_t two) noexcept nogil
    uint64_t eight "tss_eight" (const uint8_t *at) noexcept nogil
    uint64_t four "tss_four" (const uint8_t *at) noexcept nogil


cdef struct Entry:
    uint64_t hash  # 0: the slot is free
    uint64_t trues
    uint64_t errors


cdef struct Memo:
    Entry *entries
    uint32_t room  # a power of two, or 0
    uint32_t most  # that `room` may become
    uint32_t used
    bint upper  # which half is cleared next when it is full
    uint64_t[4] seed


cdef void set_up(Memo *memo, uint64_t most_bytes)
cdef void put(Memo *memo, uint64_t hash, uint64_t trues, uint64_t errors) noexcept nogil
cdef uint64_t memo_bytes(Memo *memo) noexcept nogil


cdef inline uint64_t hash_of(Memo *memo, uint64_t kind, const uint8_t *at, uint64_t size) noexcept nogil:
    """The keyed hash of a value. `kind` distinguishes values with the same bytes. Never 0.

    Only the hash is stored. Whoever does not know the seed finds two values with one hash with a chance of 2**-64 a pair.
    """
    cdef uint64_t found = folded(kind ^ memo.seed[0], size ^ memo.seed[1]), one = 0, two = 0
    while size > 16:
        found = folded(eight(at) ^ memo.seed[2], eight(at + 8) ^ found)
        at += 16
        size -= 16
    if size >= 8:
        one, two = eight(at), eight(at + size - 8)
    elif size >= 4:
        one, two = four(at), four(at + size - 4)
    elif size:
        one = <uint64_t> at[0] << 16 | <uint64_t> at[size >> 1] << 8 | at[size - 1]
    return folded(one ^ memo.seed[2], two ^ found) ^ memo.seed[3] | 1


cdef inline Entry *find(Memo *memo, uint64_t hash) noexcept nogil:
    """The entry with this hash, or NULL."""
    cdef uint32_t slot
    if memo.room == 0:
        return NULL
    slot = (hash >> 32) & (memo.room - 1)
    while memo.entries[slot].hash:
        if memo.entries[slot].hash == hash:
            return memo.entries + slot
        slot = (slot + 1) & (memo.room - 1)
    return NULL
