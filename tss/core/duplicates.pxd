# The C types of duplicates.py, for when it is compiled.

cimport cython
from tss.core.otlp.cursor cimport Cursor


cdef class _Repeated:
    cdef bytes payload
    cdef Cursor cursor
    cdef dict kinds
    cdef set others
    cdef list starts

    @cython.locals(cursor=Cursor, size="Py_ssize_t")
    cpdef list found(self)
    @cython.locals(cursor=Cursor)
    cdef int resource(self, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor)
    cdef int scope(self, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, span_id=bytes, kind="unsigned long long")
    cdef int span(self, Py_ssize_t field, Py_ssize_t start, Py_ssize_t stop) except -1
