# The C types of latency.py, used when it is compiled.

from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace


cdef class Latency(Policy):
    cdef readonly double threshold_ms

    cpdef double vote(self, Trace trace) except? -3
