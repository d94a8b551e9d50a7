# The C types of sampler.py, used when it is compiled.

cimport cython
from tss.core.collector.votes cimport Chosen, Vote
from tss.core.combining cimport Sampler
from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace

cdef int _TRUE
cdef int _ERROR
cdef int _KEEPS
cdef int _REFUSES
cdef int _FAILS


cdef class Voter(Policy):
    cdef readonly Vote ballot
    cdef readonly bint drops

    cpdef double vote(self, Trace trace) except? -3


cdef class Collector(Sampler):
    cdef tuple _voters
    cdef tuple _lucky
    cdef bint _least
    cdef bint _lucky_drops
    cdef Chosen _one_die

    @cython.locals(place="Py_ssize_t", voter=Voter, named=Voter, dropping=Voter, certain=bint)
    cpdef decide(self, Trace trace)
    @cython.locals(answer=int)
    cdef int _asked(self, Py_ssize_t place, Voter voter, Trace trace) except -1
    @cython.locals(voter=Voter, rate=double, highest=double)
    cdef double _rate(self, Trace trace) except -1
    cdef bint _is_weighted(self, Trace trace) except -1
    @cython.locals(voter=Voter, rate=double)
    cdef double _joined(self, Trace trace) except -1
