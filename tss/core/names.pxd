# The C types of names.py, used when it is compiled.

cimport cython
from tss.core.otlp.cursor cimport Cursor

cdef bytes _KEY
cdef Py_ssize_t _KEY_BYTES
cdef int _UNKNOWN
cdef int _OTHER


@cython.final
cdef class Interned:
    cdef dict _numbers
    cdef list _near
    cdef list _near_numbers
    cdef long long _max_bytes
    cdef readonly list texts
    cdef readonly long long held_bytes

    cpdef int number(self, bytes name) except -1
    @cython.locals(place="Py_ssize_t", name=bytes, number=int)
    cdef int number_at(self, bytes message, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef int _add(self, bytes name) except -1


@cython.final
cdef class Names:
    cdef readonly Interned services
    cdef readonly Interned roots
    cdef readonly int service
    cdef readonly int root
    cdef Cursor _cursor
    cdef Py_ssize_t _start
    cdef Py_ssize_t _stop

    @cython.locals(cursor=Cursor)
    cpdef bint look(self, bytes message, bint wants_root) except -1
    @cython.locals(cursor=Cursor, first=bint, end="Py_ssize_t")
    cdef int _look(self, Py_ssize_t stop, bint wants_root) except -1
    @cython.locals(cursor=Cursor, resource="Py_ssize_t", resource_end="Py_ssize_t", end="Py_ssize_t", found=bint)
    cdef int _resource_spans(self, Py_ssize_t at, Py_ssize_t stop, bint first, bint wants_root) except -1
    @cython.locals(cursor=Cursor, end="Py_ssize_t")
    cdef int _scope_spans(self, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, size="Py_ssize_t")
    cdef int _is_root(self, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, message=bytes, start="Py_ssize_t", end="Py_ssize_t", key="Py_ssize_t")
    cdef int _service(self, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(cursor=Cursor, end="Py_ssize_t")
    cdef int _text(self, Py_ssize_t at, Py_ssize_t stop) except -1


@cython.locals(place="Py_ssize_t")
cdef bint is_at(bytes name, bytes message, Py_ssize_t start, Py_ssize_t stop) noexcept
