# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled lineage: it stores the ids of a trace in few bytes. `reference.Lineage` is the reference and the fallback."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from tss.core.otlp.ids cimport Seed, id_at, new_seed, slot_of_id
from tss.core.otlp.records cimport Part, Records

from tss.core.otlp.envelope import LINEAGE_SPANS

cdef enum:
    OBJECT_BYTES = 64  # the Python object
    SMALL = 32  # up to this many ids, a linear search; beyond, a hash table

cdef uint64_t MOST_IDS = LINEAGE_SPANS
cdef Seed SEED = new_seed()


# After the ids a table has one bit per slot: whether that id has been seen.
cdef inline size_t table_bytes(uint32_t room) noexcept nogil:
    return room * sizeof(uint64_t) + (room + 7) // 8


cdef inline bint has_bit(const uint64_t *ids, uint32_t room, uint32_t slot) noexcept nogil:
    return (<const uint8_t *> (ids + room))[slot >> 3] >> (slot & 7) & 1


cdef inline void set_bit(uint64_t *ids, uint32_t room, uint32_t slot) noexcept nogil:
    (<uint8_t *> (ids + room))[slot >> 3] |= 1 << (slot & 7)


cdef class Lineage:
    """Knows which parents of one trace's spans are missing, over any number of fragments.

    After `LINEAGE_SPANS` ids, seen or named as a parent, it forgets all ids and stays open: the trace counts as incomplete.

    A small lineage is an array: the seen ids, then the open ones, 8 bytes each. A large one is a hash table that is between
    a half and four fifths full, with a bit per slot for whether the id has been seen. `open` is the number of parents that
    were named and have not been seen. `bytes` is the memory since the first ids were added.
    """

    def __dealloc__(self):
        free(self.ids)

    cpdef take(self, Records records, Py_ssize_t at):
        """Add the ids of this fragment."""
        cdef Part *part = records.fragment(at)
        cdef const uint64_t *ids = records.ids + part.ids
        cdef uint32_t number
        for number in range(part.spans):
            self.enter(ids[number], True)
        for number in range(part.spans, part.spans + part.missing):
            self.enter(ids[number], False)
        self.count()

    cpdef add(self, bytes span_ids, bytes missing):
        """Add a fragment's `span_ids` and `missing`. Raises ValueError if a length is not a multiple of 8 bytes."""
        cdef Py_ssize_t seen_bytes = len(span_ids), named_bytes = len(missing), at  # len raises for None
        cdef const uint8_t *seen = <const uint8_t *> PyBytes_AS_STRING(span_ids)
        cdef const uint8_t *named = <const uint8_t *> PyBytes_AS_STRING(missing)
        if seen_bytes % 8 or named_bytes % 8:
            raise ValueError(f"ids are 8 bytes each, not {seen_bytes} and {named_bytes} in all")
        for at in range(0, seen_bytes, 8):
            self.enter(id_at(seen + at), True)
        for at in range(0, named_bytes, 8):
            self.enter(id_at(named + at), False)
        self.count()

    cdef void count(self) noexcept:
        self.open = 1 if self.full else self.named + self.odd
        self.bytes = OBJECT_BYTES + (table_bytes(self.room) if self.room > SMALL else self.room * sizeof(uint64_t))

    cdef int enter(self, uint64_t id, bint seen) except -1:
        if id == 0:  # not a span's id: it stands for a parent id of invalid length
            self.odd |= not seen
        elif self.full:
            pass
        elif self.room <= SMALL:
            self.enter_small(id, seen)
        else:
            self.enter_large(id, seen)
        return 0

    cdef int enter_small(self, uint64_t id, bint seen) except -1:
        cdef uint32_t at = 0, first_open = self.used - self.named
        while at < self.used and self.ids[at] != id:
            at += 1
        if at == self.used:
            if self.used == SMALL:
                self.rebuild(SMALL * 2)
                return self.enter_large(id, seen)
            if self.used == self.room:
                self.widen()
            self.ids[at] = id
            self.used += 1
            self.named += 1
        if seen and at >= first_open:
            self.ids[at], self.ids[first_open] = self.ids[first_open], id
            self.named -= 1
        return 0

    cdef int widen(self) except -1:
        """Make room for two more ids in the array: malloc's own step is 16 bytes."""
        cdef uint64_t *ids = <uint64_t *> realloc(self.ids, (self.room + 2) * sizeof(uint64_t))
        if ids == NULL:
            raise MemoryError
        self.ids, self.room = ids, self.room + 2
        return 0

    cdef int enter_large(self, uint64_t id, bint seen) except -1:
        cdef uint32_t slot = slot_of_id(&SEED, self.ids, self.room, id)
        if self.ids[slot] == 0:
            if self.used == MOST_IDS:
                self.forget()
                return 0
            if <uint64_t> self.used * 5 > <uint64_t> self.room * 4:
                self.rebuild(self.used * 2)
                slot = slot_of_id(&SEED, self.ids, self.room, id)
            self.ids[slot] = id
            self.used += 1
            self.named += 1
        if seen and not has_bit(self.ids, self.room, slot):
            set_bit(self.ids, self.room, slot)
            self.named -= 1
        return 0

    cdef int rebuild(self, uint32_t room) except -1:
        """Enter all ids in a new hash table."""
        cdef uint64_t *ids = <uint64_t *> calloc(1, table_bytes(room))
        cdef uint32_t at, slot, seen_small = self.used - self.named
        cdef bint seen
        if ids == NULL:
            raise MemoryError
        for at in range(self.room):
            if self.room <= SMALL:
                seen = at < seen_small
            else:
                seen = has_bit(self.ids, self.room, at)
            if self.ids[at]:
                slot = slot_of_id(&SEED, ids, room, self.ids[at])
                ids[slot] = self.ids[at]
                if seen:
                    set_bit(ids, room, slot)
        free(self.ids)
        self.ids, self.room = ids, room
        return 0

    cdef void forget(self) noexcept:
        free(self.ids)
        self.ids = NULL
        self.room = self.used = self.named = 0
        self.full = True

    cpdef tuple known(self):
        """The seen ids and the open ones, in the form that `add` takes, and whether there were too many."""
        cdef uint32_t at
        cdef bint seen
        cdef bytearray found = bytearray(), opened = bytearray()
        for at in range(self.room):
            if self.room <= SMALL and at >= self.used:
                break
            if self.ids[at]:
                seen = at < self.used - self.named if self.room <= SMALL else has_bit(self.ids, self.room, at)
                (found if seen else opened).extend((<char *> &self.ids[at])[:8])
        if self.odd:
            opened.extend(bytes(8))
        return bytes(found), bytes(opened), self.full

    cpdef overflow(self):
        """Forget all ids and stay open, as after too many ids."""
        self.forget()
        self.open = 1
        self.bytes = OBJECT_BYTES

    def __repr__(self):
        return f"Lineage(open={self.open})"
