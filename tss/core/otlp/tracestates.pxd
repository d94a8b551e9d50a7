# The C types of tracestates.py, used when it is compiled.

cimport cython
from tss.core.otlp.cursor cimport Cursor


cdef class _Restating:
    cdef bytes message
    cdef object change
    cdef Cursor cursor
    cdef readonly list outcomes
    cdef bint asked
    cdef bytes old
    cdef bint changes
    cdef bytes field
    cdef Py_ssize_t outcome
    cdef Py_ssize_t times
    cdef Py_ssize_t place
    cdef Py_ssize_t end

    @cython.locals(
        cursor=Cursor, message=bytes, down="unsigned long long", pieces=list, copied="Py_ssize_t", field="Py_ssize_t",
        body="Py_ssize_t", end="Py_ssize_t", new=bytes,
    )
    cpdef bytes level(self, int level, Py_ssize_t start, Py_ssize_t stop)
    cdef Py_ssize_t after_tag(self, Py_ssize_t field, Py_ssize_t stop) except -1
    @cython.locals(
        cursor=Cursor, message=bytes, place="Py_ssize_t", end="Py_ssize_t", after="Py_ssize_t", old=bytes
    )
    cdef bint find(self, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef int ask(self, bytes old) except -1
    cpdef settle(self)


cdef bytes _length(Py_ssize_t size)
