# The C types of combine.py, used when it is compiled.

cimport cython
from tss.core.policies.policy cimport Policy
from tss.core.policies.probability cimport randomness
from tss.core.trace cimport Trace


cdef class Sampler:
    cdef readonly object lookup
    cdef tuple _policies
    cdef object _router
    cdef dict _decisions
    cdef object _last_kept
    cdef object _last_dropped

    @cython.locals(candidate=Policy, keep=bint)
    cpdef decide(self, Trace trace)
    cpdef forced(self, Trace trace, policy, bint keep)
    cdef _other(self, policy, reason, rate, bint keep, ways)
