# The C types of cursor.py, used when it is compiled.

cimport cython


cdef class Cursor:
    cdef bytes message
    cdef Py_ssize_t at
    cdef Py_ssize_t start
    cdef Py_ssize_t body
    cdef unsigned long long tag
    cdef unsigned long long value

    cdef int step(self, Py_ssize_t stop) except -1
    cdef int content(self, int kind, Py_ssize_t stop) except -1
    @cython.locals(size="unsigned long long", left="unsigned long long")
    cdef int sized(self, int kind, Py_ssize_t stop) except -1
    @cython.locals(depth="Py_ssize_t", kind=int)
    cdef int skip_group(self, Py_ssize_t stop) except -1
    @cython.locals(message=bytes, value="unsigned long long", shift=int, byte="unsigned long long")
    cdef unsigned long long varint(self, Py_ssize_t stop) except? 0
    @cython.locals(message=bytes, value="unsigned long long", place=int)
    cdef unsigned long long fixed64(self)
