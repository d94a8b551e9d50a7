# The C types of holds.py, used when it is compiled.

cimport cython
from tss.core.progress cimport Progress


cdef class Holds:
    cdef readonly Progress partition
    cdef readonly long long first_offset
    cdef readonly object offsets
    cdef readonly list chunks
    cdef readonly long long spans
    cdef readonly long long payload_bytes
    cdef readonly long long held_ms
    cdef readonly long long size

    @cython.locals(growth="long long")
    cpdef long long add(self, long long offset, bytes payload, long long spans) except -1
    @cython.locals(before="long long", growth="long long")
    cpdef long long rewrite(self, bytes payload) except? -1
    cpdef long long leave_out(self, set places) except? -1
    cpdef take_off(self)
    cpdef let_go(self)
    @cython.locals(offset="long long")
    cpdef release(self)


cpdef long long spans_of(bytes chunk) except -1
