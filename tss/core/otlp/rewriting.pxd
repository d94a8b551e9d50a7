# The C types of rewriting.py, used when it is compiled.

cimport cython
from tss.core.otlp.cursor cimport Cursor


cdef class _Rewriting:
    cdef bytes message
    cdef dict changes
    cdef Cursor cursor
    cdef Py_ssize_t spans
    cdef Py_ssize_t lost

    @cython.locals(
        cursor=Cursor, down="unsigned long long", pieces=list, copied="Py_ssize_t", spans="Py_ssize_t", lost="Py_ssize_t",
        field="Py_ssize_t", end="Py_ssize_t",
    )
    cdef bytes level(self, int level, Py_ssize_t start, Py_ssize_t stop)
    cdef bytes span(self, Py_ssize_t field)
    cdef bytes container(self, int level, Py_ssize_t field, Py_ssize_t body, Py_ssize_t end)
