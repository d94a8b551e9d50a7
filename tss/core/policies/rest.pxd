# The C types of rest.py, used when it is compiled.

from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace


cdef class Rest(Policy):
    cdef readonly object default_rate

    cpdef rate(self, Trace trace)
