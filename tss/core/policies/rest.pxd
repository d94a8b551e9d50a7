# The C types of rest.py, used when it is compiled.

from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace


cdef class Rest(Policy):
    cpdef double vote(self, Trace trace) except? -3
