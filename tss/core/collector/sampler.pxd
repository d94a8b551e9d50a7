# The C types of sampler.py, used when it is compiled.

cimport cython
from tss.core.collector.votes cimport Vote
from tss.core.combining cimport Sampler
from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace


cdef class Voter(Policy):
    cdef readonly Vote ballot
    cdef readonly bint drops

    cpdef double vote(self, Trace trace) except? -3


cdef class Collector(Sampler):
    cdef tuple _drops
    cdef tuple _keeps
    cdef bint _least
    cdef bint _by_chance
    cdef bint _lucky_drops

    @cython.locals(voter=Voter, named=Voter)
    cpdef decide(self, Trace trace)
    cdef _by_rate(self, Trace trace, Voter named)
    @cython.locals(voter=Voter, rate=double)
    cdef tuple _rate(self, Trace trace)
