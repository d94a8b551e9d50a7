# The C types of combining.py, used when it is compiled.

cimport cython
from tss.core.conditions.program cimport Program
from tss.core.policies.policy cimport Policy
from tss.core.policies.probability cimport randomness
from tss.core.routing cimport Router
from tss.core.trace cimport Trace


cdef int _KEEPS
cdef int _REFUSES
cdef int _FAILS


cdef class Sampler:
    cdef readonly Program program
    cdef public str ruleset
    cdef readonly tuple policies
    cdef readonly bint shadows
    cdef readonly unsigned int[::1] votes
    cdef tuple _shadows
    cdef bint _first
    cdef int _counts
    cdef double _last_rate
    cdef long long _last_threshold
    cdef Router _router
    cdef dict _known
    cdef Py_ssize_t _made_count

    @cython.locals(place="Py_ssize_t", policy=Policy, vote=double, rate=double, abstain=double, drop=double, failed=double, settled=bint)
    cpdef decide(self, Trace trace)
    @cython.locals(votes="unsigned int[::1]", word="Py_ssize_t")
    cpdef forget_votes(self)
    cpdef note(self, Py_ssize_t place, unsigned int said)
    cdef _decided(self, Trace trace, name, double rate)
    cpdef foresee(self, Trace trace)
    @cython.locals(policy=Policy, policies=tuple, found=list)
    cpdef list shadowed(self, Trace trace)
    @cython.locals(policy=Policy, vote=double, rate=double, abstain=double, drop=double)
    cdef _combined(self, Trace trace, tuple policies)
    @cython.locals(given="long long")
    cpdef long long randomness(self, Trace trace) except? -1
    cpdef long long given_randomness(self, Trace trace) except? -2
    cpdef forced(self, Trace trace, policy, bint keep)
    cpdef decision(self, Trace trace, policy, double rate, bint keep, bint weighted=*)
    cdef _ways(self, Trace trace, policy, bint keep)
    @cython.locals(known=list, each=_Known, made=_Known)
    cdef _made(self, Trace trace, policy, double rate, bint keep, ways, bint weighted)


cdef class _Known:
    cdef object reason
    cdef double rate
    cdef bint keep
    cdef object ways
    cdef bint weighted
    cdef object decision
