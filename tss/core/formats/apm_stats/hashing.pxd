# A hash of bytes for tables in memory: two words at a time, folded by a 128-bit product. Never store or send it: each
# process has another seed, so that nobody can choose values that all collide. The size is xored into `so_far`, so `so_far`
# has to be a hash itself, or the same for all entries of a table.

from libc.stdint cimport uint8_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t tss_fold(uint64_t one, uint64_t other) {
        unsigned __int128 product = (unsigned __int128) one * other;
        return (uint64_t) product ^ (uint64_t) (product >> 64);
    }
    static inline uint64_t tss_word(const uint8_t *at, size_t size) {
        uint64_t value = 0;
        if (size)  /* with size 0 `at` may be NULL, and C forbids memcpy from NULL even for 0 bytes */
            memcpy(&value, at, size);
        return value;
    }
    static inline uint64_t tss_hash(uint64_t so_far, const uint8_t *at, size_t size, uint64_t seed, uint64_t odd) {
        uint64_t first, second;
        so_far = tss_fold(so_far ^ seed ^ size, odd);
        while (size > 16) {
            memcpy(&first, at, 8);
            memcpy(&second, at + 8, 8);
            so_far = tss_fold(first ^ so_far, second ^ odd);
            at += 16;
            size -= 16;
        }
        if (size > 8) {
            memcpy(&first, at, 8);
            second = tss_word(at + 8, size - 8);
        } else {
            first = tss_word(at, size);
            second = seed;
        }
        return tss_fold(first ^ so_far, second ^ odd);
    }
    """
    uint64_t fold "tss_fold" (uint64_t one, uint64_t other) noexcept nogil
    uint64_t hashed "tss_hash" (
        uint64_t so_far, const uint8_t *at, size_t size, uint64_t seed, uint64_t odd
    ) noexcept nogil
