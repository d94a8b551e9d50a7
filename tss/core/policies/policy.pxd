# The C types of policy.py, used when it is compiled.

from tss.core.trace cimport Trace


cdef class Policy:
    cdef readonly str name
    cdef readonly tuple asks

    cpdef rate(self, Trace trace)
