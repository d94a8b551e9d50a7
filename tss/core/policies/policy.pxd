# The C types of policy.py, used when it is compiled.

from tss.core.trace cimport Trace


cdef class Policy:
    cdef readonly str name
    cdef readonly tuple asks
    cdef readonly double says
    cdef readonly bint shadow
    cdef public long long evaluated
    cdef public long long matched

    cpdef bind(self, program)
    cpdef forget_votes(self)
    cpdef double vote(self, Trace trace) except? -3
