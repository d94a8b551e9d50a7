# The C types of errors.py, used when it is compiled.

from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace


cdef class Errors(Policy):
    cpdef double vote(self, Trace trace) except? -3
