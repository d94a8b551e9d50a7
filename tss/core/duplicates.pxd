# The C types of duplicates.py, for when it is compiled.

cimport cython
from tss.core.otlp.cursor cimport Cursor


cdef class _Repeated:
    cdef bytes payload
    cdef Cursor cursor
    cdef dict firsts
    cdef set others
    cdef list starts

    @cython.locals(cursor=Cursor, size="Py_ssize_t")
    cpdef list found(self)
    @cython.locals(cursor=Cursor)
    cdef int resource(self, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor)
    cdef int scope(self, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, span_id=bytes, first="Py_ssize_t")
    cdef int span(self, Py_ssize_t field, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef int again(self, Py_ssize_t first, bytes whole) except -1
