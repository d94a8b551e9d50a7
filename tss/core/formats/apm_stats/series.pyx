# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Numbers for series: a known hash costs one table lookup; a new one is named in Python, once."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from tss.core.formats.apm_stats.walk cimport Fact, Walker

from sys import getsizeof

cdef enum:
    FIRST_ROOM = 256
    # Hashes of 12 bytes each. Each statement with other literals has a new hash; a full table is emptied.
    MOST_ROOM = 131072


cdef uint64_t bytes_of_name(name):
    """The memory of a name (a string, or a tuple of strings and numbers), with its entries in a dict and a list."""
    cdef uint64_t size = 150 + getsizeof(name)
    if isinstance(name, tuple):
        for part in <tuple> name:
            size += bytes_of_name(part) - 150 if isinstance(part, tuple) else getsizeof(part)
    return size


cdef class HashTable:
    """Numbers by hash. A hash is never 0."""

    def __cinit__(self):
        self.make(FIRST_ROOM)

    def __dealloc__(self):
        free(self.hashes)
        free(self.numbers)

    cdef int make(self, uint32_t room) except -1:
        """Replace the table by an empty one."""
        free(self.hashes)
        free(self.numbers)
        self.numbers = NULL
        self.hashes = <uint64_t *> calloc(room, sizeof(uint64_t))
        self.numbers = <uint32_t *> calloc(room, sizeof(uint32_t))
        if self.hashes == NULL or self.numbers == NULL:
            raise MemoryError
        self.room, self.used = room, 0
        return 0

    cdef int clear(self) except -1:
        return self.make(FIRST_ROOM)

    cdef uint32_t find(self, uint64_t hash) noexcept:
        """The number of a hash; MISSING if it is not in the table."""
        cdef uint32_t slot = hash & (self.room - 1)
        while self.hashes[slot]:
            if self.hashes[slot] == hash:
                return self.numbers[slot]
            slot = slot + 1 & self.room - 1
        return MISSING

    cdef int enter(self, uint64_t hash, uint32_t number) except -1:
        """Add a hash that is not in the table yet."""
        cdef uint32_t slot
        if self.used * 2 >= self.room:
            self.widen()
        slot = hash & (self.room - 1)
        while self.hashes[slot]:
            slot = slot + 1 & self.room - 1
        self.hashes[slot], self.numbers[slot] = hash, number
        self.used += 1
        return 0

    cdef int widen(self) except -1:
        """Double the room. At MOST_ROOM the table is emptied instead: hashes that are still in use soon return."""
        cdef uint64_t *hashes = self.hashes
        cdef uint32_t *numbers = self.numbers
        cdef uint32_t room = self.room, at, slot, used = self.used
        if room >= MOST_ROOM:
            self.make(room)
            return 0
        self.hashes, self.numbers = NULL, NULL
        try:
            self.make(room * 2)
            for at in range(room):
                if hashes[at]:
                    slot = hashes[at] & (self.room - 1)
                    while self.hashes[slot]:
                        slot = slot + 1 & self.room - 1
                    self.hashes[slot], self.numbers[slot] = hashes[at], numbers[at]
            self.used = used
        finally:
            free(hashes)
            free(numbers)
        return 0


cdef class SeriesNumbers:
    """Numbers for names. `name` makes a hashable name from (span bytes, the walker's result for its resource), or None.

    After `most` names, or `most_bytes` of them, every new name gets number 0, which is `overflow`. Numbers are valid until
    `clear`.
    """

    def __cinit__(self, name, overflow, uint32_t most, uint64_t most_bytes=1 << 62):
        self.name, self.most, self.most_bytes = name, most, most_bytes
        self.known, self.names, self.table = {}, [overflow], HashTable()

    cpdef clear(self):
        """Forget all names. Their numbers are no longer valid."""
        self.known = {}
        self.names = self.names[:1]
        self.text_bytes = 0
        self.table.clear()

    cdef uint32_t number(self, uint64_t hash, Walker walker, Fact *fact) except? 0xFFFFFFFE:
        """The number of the series with this hash, which is not 0. `fact` is a span of that series."""
        cdef uint32_t found = self.table.find(hash)
        return self.enter(hash, walker, fact) if found == MISSING else found

    cdef uint32_t enter(self, uint64_t hash, Walker walker, Fact *fact) except? 0xFFFFFFFE:
        cdef uint32_t number
        self.misses += 1
        name = self.name(walker.span_bytes(fact), walker.around_of(fact))
        if name is None:  # the cause may be a field outside the hash, so the next span with this hash is tried again
            return NAMELESS
        if name in self.known:
            number = self.known[name]
        elif len(self.names) > self.most or self.text_bytes >= self.most_bytes:
            number = OVERFLOW
        else:
            number = self.known[name] = len(self.names)
            self.names.append(name)
            self.text_bytes += bytes_of_name(name)
        self.table.enter(hash, number)
        return number
