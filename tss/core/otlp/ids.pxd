"""Span ids in C: eight bytes as one number, which is only compared, and hash tables of ids."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t tss_id(const uint8_t *at) {
        uint64_t value;
        memcpy(&value, at, 8);
        return value;
    }
    """
    uint64_t id_at "tss_id" (const uint8_t *at) noexcept nogil


cdef struct Seed:
    uint64_t first
    uint64_t odd


cdef inline Seed new_seed() except *:
    """A seed that differs in each process, like the seed of Python's own hashes, so that nobody can choose colliding ids."""
    cdef Seed seed
    seed.first = <uint64_t> <Py_ssize_t> hash("tss.core.otlp.ids")
    seed.odd = <uint64_t> <Py_ssize_t> hash("tss.core.otlp.ids, odd") | 1
    return seed


cdef inline uint64_t mixed(Seed *seed, uint64_t value) noexcept nogil:
    """A hash: each bit of the value and of the seed affects all upper bits."""
    value = (value ^ seed.first) * seed.odd
    value = (value ^ value >> 32) * 0x9E3779B97F4A7C15u
    return (value ^ value >> 29) * seed.odd


cdef inline uint32_t slot_of_id(Seed *seed, const uint64_t *table, uint32_t room, uint64_t id) noexcept nogil:
    """The slot of this id in the table, or the empty slot (0) where it belongs. The id must not be 0."""
    cdef uint32_t slot = (mixed(seed, id) >> 32) * room >> 32
    while table[slot] and table[slot] != id:
        slot += 1
        if slot == room:
            slot = 0
    return slot
