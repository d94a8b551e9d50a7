# The C types of firstmet.py, used when it is compiled.

cimport cython
from tss.core.table cimport Table


cdef class Generation:
    cdef Table places
    cdef long long lowest
    cdef long long last


cdef class FirstMet:
    cdef Generation _new
    cdef Generation _old
    cdef long long _lost
    cdef long long _lost_last

    @cython.locals(key="long long", first="long long", new=Generation)
    cpdef long long meet(self, bytes trace_id, long long offset, long long second) except -1
    @cython.locals(old=Generation)
    cpdef shorten(self)
    cpdef forget_before(self, long long second)
