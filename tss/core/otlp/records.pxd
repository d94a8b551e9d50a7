"""Records and their fragments in C arrays. See records.pyx."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from tss.core.conditions.program cimport Program


cdef struct Row:  # a record
    long long offset
    long long partition
    long long timestamp_ms  # since the epoch; negative if the record has no timestamp
    Py_ssize_t first  # its fragments are those from here on
    Py_ssize_t stop


cdef struct Part:  # a fragment: for the numbers see `Fragment`
    uint64_t[2] id  # of its trace, in the order of the bytes
    unsigned long long start_ns
    unsigned long long end_ns
    PyObject *trace_id  # `id` as an object, once it was asked for
    PyObject *payload
    PyObject *facts  # NULL: none
    PyObject *forced  # NULL: none
    Py_ssize_t ids  # where its ids begin: those of its spans, then the missing ones
    uint32_t spans
    uint32_t errors
    uint32_t missing  # how many
    uint8_t has_root


@cython.final
@cython.no_gc  # nothing that it refers to refers to it
cdef class Records:
    cdef readonly Program program
    cdef readonly Program rules
    cdef Row *rows
    cdef Part *parts
    cdef uint64_t *ids
    cdef Py_ssize_t rows_used
    cdef Py_ssize_t rows_room
    cdef Py_ssize_t parts_used
    cdef Py_ssize_t parts_room
    cdef Py_ssize_t ids_used
    cdef Py_ssize_t ids_room
    cdef long long owned_bytes

    cdef Row *record(self, Py_ssize_t number) except NULL
    cdef Part *fragment(self, Py_ssize_t at) except NULL
    cdef const uint64_t *ids_of(self, Py_ssize_t at) except? NULL
    cpdef int add(self, long long partition, long long offset, long long timestamp_ms) except -1
    cdef Part *new_part(self, bytes payload, uint32_t spans, uint32_t most_missing) except NULL
    cdef int own(self, PyObject **slot, bytes value) except -1
    cpdef int append(self, fragment) except -1
    cpdef bytes trace_id(self, Py_ssize_t at)
    cpdef bytes payload(self, Py_ssize_t at)
    cpdef bytes facts(self, Py_ssize_t at)
    cpdef bytes forced(self, Py_ssize_t at)
    cpdef bytes span_ids(self, Py_ssize_t at)
    cpdef bytes missing(self, Py_ssize_t at)
    cpdef long long held_bytes(self) noexcept
    cpdef tuple place(self, Py_ssize_t number)
    cdef object copied(self, Py_ssize_t at)
    cpdef tuple fragments(self, Py_ssize_t number)
    cpdef list pieces(self, Py_ssize_t number)
    cpdef list runs(self)
