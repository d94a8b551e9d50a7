# The C types of sampler.py, used when it is compiled.

cimport cython
from tss.core.collector.votes cimport Chosen, Vote
from tss.core.combining cimport Sampler
from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace

cdef int _TRUE


cdef class Voter(Policy):
    cdef readonly Vote ballot
    cdef readonly bint drops

    cpdef double vote(self, Trace trace) except? -3


cdef class Collector(Sampler):
    cdef tuple _drops
    cdef tuple _keeps
    cdef tuple _lucky
    cdef bint _least
    cdef bint _lucky_drops
    cdef Chosen _one_die

    @cython.locals(voter=Voter, named=Voter, ballot=Vote, certain=bint, rate=double)
    cpdef decide(self, Trace trace)
    @cython.locals(voter=Voter, rate=double, highest=double)
    cdef double _rate(self, Trace trace) except -1
    cdef bint _is_weighted(self, Trace trace) except -1
    @cython.locals(voter=Voter, rate=double)
    cdef double _joined(self, Trace trace) except -1
