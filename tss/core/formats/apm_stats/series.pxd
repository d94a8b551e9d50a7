# The number of a span's series, by the hash that the walk computed; a series is named in Python only once.

from libc.stdint cimport uint32_t, uint64_t

from tss.core.formats.apm_stats.walk cimport Fact, Walker

cdef enum:
    NAMELESS = 0xFFFFFFFF  # the span's name cannot be read
    OVERFLOW = 0  # the number of the series that there is no room for
    MISSING = 0xFFFFFFFD  # the hash is not in the table


cdef class HashTable:
    cdef uint64_t *hashes  # 0 is an empty slot
    cdef uint32_t *numbers
    cdef uint32_t room
    cdef uint32_t used

    cdef uint32_t find(self, uint64_t hash) noexcept
    cdef int enter(self, uint64_t hash, uint32_t number) except -1
    cdef int clear(self) except -1
    cdef int make(self, uint32_t room) except -1
    cdef int widen(self) except -1


cdef uint64_t bytes_of_name(name)


cdef class SeriesNumbers:
    cdef HashTable table
    cdef readonly uint32_t most
    cdef readonly uint64_t most_bytes
    cdef object name
    cdef dict known  # numbers by name
    cdef readonly list names  # by number; the first is `overflow`
    cdef readonly uint64_t text_bytes  # an estimate of the names' size
    cdef readonly uint64_t misses  # how often a name had to be made

    cdef uint32_t number(self, uint64_t hash, Walker walker, Fact *fact) except? 0xFFFFFFFE
    cdef uint32_t enter(self, uint64_t hash, Walker walker, Fact *fact) except? 0xFFFFFFFE
    cpdef clear(self)
