# The C types of counts.py, used when it is compiled.

cimport cython
from tss.core.otlp.cursor cimport Cursor


cdef class _Counting:
    cdef bytes message
    cdef bytes key
    cdef bytes start
    cdef object count_of
    cdef double chance
    cdef Cursor cursor
    cdef readonly dict changes
    cdef bint asked
    cdef bytes old
    cdef double count

    @cython.locals(cursor=Cursor, size="Py_ssize_t")
    cpdef read(self)
    @cython.locals(cursor=Cursor)
    cdef int below(self, Py_ssize_t start, Py_ssize_t stop, int level) except -1
    @cython.locals(
        cursor=Cursor, message=bytes, state=bytes, place="Py_ssize_t", end="Py_ssize_t", before="double", new=bytes, body=bytes
    )
    cdef int span(self, Py_ssize_t field, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef bytes attribute(self, double count)
