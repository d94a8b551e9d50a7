# The C types of outline.py, used when it is compiled.

cimport cython
from tss.core.otlp.cursor cimport Cursor


cdef class Seen:
    cdef readonly Py_ssize_t field
    cdef readonly Py_ssize_t body
    cdef readonly Py_ssize_t stop
    cdef readonly Py_ssize_t place
    cdef readonly bytes span_id
    cdef readonly bytes parent
    cdef readonly unsigned long long kind
    cdef readonly unsigned long long code
    cdef readonly bint linked
    cdef readonly unsigned long long start_ns
    cdef readonly unsigned long long end_ns
    cdef readonly bytes name
    cdef readonly bytes trace_state
    cdef readonly list attributes
    cdef readonly unsigned long long dropped_attributes
    cdef readonly unsigned long long dropped_events
    cdef readonly Py_ssize_t events
    cdef readonly bint excepted


cdef class Outline:
    cdef readonly bytes payload
    cdef Cursor cursor
    cdef readonly list spans
    cdef readonly set pointed_at
    cdef set ids
    cdef dict places

    @cython.locals(cursor=Cursor, pieces=list)
    cdef bytes around(self, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(cursor=Cursor, shared=bytes)
    cdef int resource(self, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, place="Py_ssize_t")
    cdef int scope(self, bytes shared, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, payload=bytes, tag="unsigned long long")
    cdef int span(self, Seen seen) except -1
    cdef int note(self, Seen seen) except -1
    @cython.locals(cursor=Cursor)
    cdef int link(self, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor)
    cdef int status(self, Seen seen, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, payload=bytes, attributes=list, tag="unsigned long long")
    cpdef look_at(self, Seen seen)
    @cython.locals(cursor=Cursor)
    cdef int event(self, Seen seen, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, pieces=list)
    cpdef bytes without(self, Seen seen, frozenset numbers)
