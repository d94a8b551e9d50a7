# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The records of one poll and their fragments, in C arrays: no Python object for a record, none for a fragment.

The scanner appends rows, and the buffer reads them. Owned objects are only what a trace takes over as it is: the bytes of a
fragment and its facts. The same in Python is `plain_records`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from tss.core.otlp.fragment import Fragment
from tss.core.conditions.program import ASKS_NOTHING

cdef extern from "Python.h":
    void Py_CLEAR(PyObject *)

cdef enum:
    FIRST_ROOM = 8
    BYTES_BYTES = 33  # the header of a bytes object


cdef void *grown(void *items, Py_ssize_t *room, Py_ssize_t needed, size_t each) except NULL:
    """The array, with room for at least `needed` items."""
    cdef Py_ssize_t more = room[0] * 2 if room[0] else FIRST_ROOM
    if more < needed:
        more = needed
    items = realloc(items, <size_t> more * each)
    if items == NULL:
        raise MemoryError
    room[0] = more
    return items


cdef inline object object_or_empty(PyObject *value):
    return b"" if value == NULL else <object> value


cdef class Records:
    """See `plain_records.Records`."""

    def __cinit__(self, program=ASKS_NOTHING, rules=None):
        self.program, self.rules = program, rules

    def __dealloc__(self):
        cdef Py_ssize_t at
        cdef Part *part
        for at in range(self.parts_used):
            part = self.parts + at
            Py_CLEAR(part.trace_id)
            Py_CLEAR(part.payload)
            Py_CLEAR(part.facts)
            Py_CLEAR(part.forced)
        free(self.rows)
        free(self.parts)
        free(self.ids)

    def __len__(self):
        return self.rows_used

    def __repr__(self):
        return f"<Records {self.rows_used}, {self.parts_used} fragments>"

    # -- growing

    cpdef int add(self, long long partition, long long offset, long long timestamp_ms) except -1:
        """Add a record, without fragments yet."""
        cdef Row *row
        if self.rows_used == self.rows_room:
            self.rows = <Row *> grown(self.rows, &self.rows_room, self.rows_used + 1, sizeof(Row))
        row = self.rows + self.rows_used
        row.partition, row.offset, row.timestamp_ms = partition, offset, timestamp_ms
        row.first = row.stop = self.parts_used
        self.rows_used += 1
        return 0

    cdef Part *new_part(self, bytes payload, uint32_t spans, uint32_t most_missing) except NULL:
        """A new fragment of the last record, with room for its ids. Its numbers are 0."""
        cdef Part *part
        cdef Py_ssize_t needed = self.ids_used + spans + most_missing
        if not self.rows_used:
            raise IndexError("there is no record for the fragment")
        if self.parts_used == self.parts_room:
            self.parts = <Part *> grown(self.parts, &self.parts_room, self.parts_used + 1, sizeof(Part))
        if needed > self.ids_room:
            self.ids = <uint64_t *> grown(self.ids, &self.ids_room, needed, sizeof(uint64_t))
        part = self.parts + self.parts_used
        memset(part, 0, sizeof(Part))
        part.spans, part.ids = spans, self.ids_used
        self.ids_used += spans  # whoever fills in missing ids adds their number
        self.parts_used += 1
        self.rows[self.rows_used - 1].stop = self.parts_used
        self.own(&part.payload, payload)
        return part

    cdef int own(self, PyObject **slot, bytes value) except -1:
        """Hold a reference to the value in the slot of a fragment, which must be empty."""
        if value is not None and PyBytes_GET_SIZE(value):
            Py_INCREF(value)
            slot[0] = <PyObject *> value
            self.owned_bytes += BYTES_BYTES + PyBytes_GET_SIZE(value)
        return 0

    cpdef int append(self, fragment) except -1:
        """Add a fragment to the last record."""
        cdef bytes span_ids = fragment.span_ids, missing = fragment.missing, trace_id = fragment.trace_id
        cdef uint32_t named = PyBytes_GET_SIZE(missing) // 8
        cdef Part *part
        if PyBytes_GET_SIZE(trace_id) != 16 or PyBytes_GET_SIZE(span_ids) != 8 * fragment.spans or PyBytes_GET_SIZE(missing) % 8:
            raise ValueError("a trace id has 16 bytes, and the id of each span 8")
        part = self.new_part(fragment.payload, PyBytes_GET_SIZE(span_ids) // 8, named)
        memcpy(part.id, PyBytes_AS_STRING(trace_id), 16)
        if self.ids != NULL:  # without any id there is no array
            memcpy(self.ids + part.ids, PyBytes_AS_STRING(span_ids), PyBytes_GET_SIZE(span_ids))
            memcpy(self.ids + self.ids_used, PyBytes_AS_STRING(missing), PyBytes_GET_SIZE(missing))
        self.ids_used += named
        part.missing = named
        part.errors, part.has_root = fragment.errors, fragment.has_root
        part.start_ns, part.end_ns = fragment.start_ns, fragment.end_ns
        self.own(&part.facts, fragment.facts)
        self.own(&part.forced, fragment.forced)
        return 0

    # -- reading

    cdef Row *record(self, Py_ssize_t number) except NULL:
        """The numbers of a record. The pointer is valid until the next record is added."""
        if number < 0 or number >= self.rows_used:
            raise IndexError(number)
        return self.rows + number

    cdef Part *fragment(self, Py_ssize_t at) except NULL:
        """The numbers of a fragment. The pointer is valid until the next fragment is added."""
        if at < 0 or at >= self.parts_used:
            raise IndexError(at)
        return self.parts + at

    cpdef bytes trace_id(self, Py_ssize_t at):
        """See `Fragment`."""
        cdef Part *part = self.fragment(at)
        cdef bytes found
        if part.trace_id == NULL:
            found = PyBytes_FromStringAndSize(<const char *> part.id, 16)
            Py_INCREF(found)
            part.trace_id = <PyObject *> found
        return <bytes> part.trace_id

    cpdef bytes payload(self, Py_ssize_t at):
        """See `Fragment`."""
        return object_or_empty(self.fragment(at).payload)

    cpdef bytes facts(self, Py_ssize_t at):
        """See `Fragment`."""
        return object_or_empty(self.fragment(at).facts)

    cpdef bytes forced(self, Py_ssize_t at):
        """See `Fragment`."""
        return object_or_empty(self.fragment(at).forced)

    cpdef bytes span_ids(self, Py_ssize_t at):
        """See `Fragment`."""
        cdef Part *part = self.fragment(at)
        return PyBytes_FromStringAndSize(<const char *> (self.ids + part.ids), <Py_ssize_t> part.spans * 8)

    cpdef bytes missing(self, Py_ssize_t at):
        """See `Fragment`."""
        cdef Part *part = self.fragment(at)
        return PyBytes_FromStringAndSize(<const char *> (self.ids + part.ids + part.spans), <Py_ssize_t> part.missing * 8)

    cdef const uint64_t *ids_of(self, Py_ssize_t at) except? NULL:
        """The ids of a fragment: those of its spans, then the missing ones. The pointer is valid until the next fragment is
        added."""
        return self.ids + self.fragment(at).ids

    cpdef long long held_bytes(self) noexcept:
        """Memory in bytes, with all that it owns."""
        cdef long long arrays = self.rows_room * sizeof(Row) + self.parts_room * sizeof(Part) + self.ids_room * sizeof(uint64_t)
        return arrays + self.owned_bytes + self.parts_used * <long long> (BYTES_BYTES + 16)

    cpdef tuple place(self, Py_ssize_t number):
        """Partition, offset and timestamp (ms) of a record."""
        cdef Row *row = self.record(number)
        return row.partition, row.offset, row.timestamp_ms

    cpdef tuple fragments(self, Py_ssize_t number):
        """The fragments of a record as objects: for few records, since it copies."""
        cdef Row *row = self.record(number)
        return tuple([self.copied(at) for at in range(row.first, row.stop)])

    cdef object copied(self, Py_ssize_t at):
        cdef Part *part = self.fragment(at)
        return Fragment(
            self.trace_id(at), self.payload(at), part.spans, part.errors, part.start_ns, part.end_ns, bool(part.has_root),
            self.span_ids(at), self.missing(at), self.facts(at), self.forced(at),
        )

    cpdef list pieces(self, Py_ssize_t number):
        """Trace id and payload of each fragment of a record."""
        cdef Row *row = self.record(number)
        return [(self.trace_id(at), self.payload(at)) for at in range(row.first, row.stop)]

    cpdef list runs(self):
        """The records in runs of one partition with ascending offsets, in their order: partition, first, and where it stops."""
        cdef list found = []
        cdef Py_ssize_t first = 0, number
        for number in range(1, self.rows_used + 1):
            if (
                number == self.rows_used
                or self.rows[number].partition != self.rows[first].partition
                or self.rows[number].offset <= self.rows[number - 1].offset
            ):
                found.append((self.rows[first].partition, first, number))
                first = number
        return found
