# The C types of names.py, used when it is compiled.

cimport cython

cdef bytes _KEY
cdef Py_ssize_t _KEY_BYTES


@cython.final
cdef class Interned:
    cdef dict _numbers
    cdef long long _max_bytes
    cdef readonly list texts
    cdef readonly long long held_bytes

    cpdef int number(self, bytes name) except -1
    cdef int _add(self, bytes name) except -1


@cython.final
cdef class Names:
    cdef readonly Interned services
    cdef readonly Interned roots
    cdef readonly int service
    cdef readonly int root
    cdef Py_ssize_t _at
    cdef Py_ssize_t _start
    cdef Py_ssize_t _stop

    @cython.locals(at="Py_ssize_t", stop="Py_ssize_t", start="Py_ssize_t", tag="long long", first=bint)
    cpdef bint look(self, bytes message, bint wants_root) except -1
    @cython.locals(resource="Py_ssize_t", end="Py_ssize_t", start="Py_ssize_t", tag="long long", found=bint)
    cdef bint _resource_spans(
        self, bytes message, Py_ssize_t at, Py_ssize_t stop, bint first, bint wants_root
    ) except -1
    @cython.locals(start="Py_ssize_t", tag="long long")
    cdef bint _scope_spans(self, bytes message, Py_ssize_t at, Py_ssize_t stop) noexcept
    @cython.locals(start="Py_ssize_t", tag="long long")
    cdef bint _is_root(self, bytes message, Py_ssize_t at, Py_ssize_t stop) noexcept
    @cython.locals(start="Py_ssize_t", inside="Py_ssize_t", tag="long long")
    cdef int _service(self, bytes message, Py_ssize_t at, Py_ssize_t stop) except -1
    cdef int _text(self, bytes message, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(value="unsigned long long", shift=int, byte="unsigned long long")
    cdef inline long long _varint(self, bytes message, Py_ssize_t at, Py_ssize_t stop) noexcept
    @cython.locals(size="long long", start="Py_ssize_t")
    cdef inline Py_ssize_t _content(self, bytes message, Py_ssize_t stop) noexcept
    @cython.locals(kind=int)
    cdef inline Py_ssize_t _skip(self, bytes message, Py_ssize_t stop, long long tag) noexcept


cdef bint _is_zero(bytes message, Py_ssize_t at, Py_ssize_t stop) noexcept
