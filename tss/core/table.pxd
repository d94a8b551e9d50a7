# The C types of table.py, for when it is compiled.

cimport cython


cdef long long _LOW


cdef class Table:
    cdef long long _used
    cdef long long _most
    cdef long long _room
    cdef long long[::1] _keys
    cdef long long[::1] _values

    cdef _make(self, long long room)
    cpdef bint is_full(self)
    @cython.locals(slot="long long")
    cpdef long long get(self, long long key) except? -1
    @cython.locals(slot="long long")
    cpdef put(self, long long key, long long value, long long floor)
    cpdef replace(self, long long key, long long value)
    @cython.locals(slot="long long")
    cdef long long _slot(self, long long key) noexcept
    @cython.locals(keys="long long[::1]", values="long long[::1]", room="long long", staying="long long", at="long long", slot="long long")
    cdef _rebuild(self, long long floor)


cpdef long long key_of(bytes trace_id) except? -1
