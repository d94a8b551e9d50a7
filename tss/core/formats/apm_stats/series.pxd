# Which series a span is of: a table from the hash that a walk leaves to a number, named in Python only once.

from libc.stdint cimport uint32_t, uint64_t

from tss.core.formats.apm_stats.walk cimport Fact, Walker

cdef enum:
    NAMELESS = 0xFFFFFFFF  # of a span whose names cannot be read
    OVERFLOW = 0  # the number of what there is no room for
    MISSING = 0xFFFFFFFD  # what is not in a table


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
    cdef dict known  # number by name
    cdef readonly list names  # by number; the first stands for all that found no room
    cdef readonly uint64_t text_bytes  # of the names, about
    cdef readonly uint64_t misses  # times that a name had to be made

    cdef uint32_t number(self, uint64_t hash, Walker walker, Fact *fact) except? 0xFFFFFFFE
    cdef uint32_t enter(self, uint64_t hash, Walker walker, Fact *fact) except? 0xFFFFFFFE
    cpdef clear(self)
