# The C types of tally.py, used when it is compiled.

cimport cython
from tss.core.names cimport Names
from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace


@cython.final
cdef class OfService:
    cdef readonly str name
    cdef readonly long long traces
    cdef readonly long long kept
    cdef readonly long long bytes_in
    cdef readonly long long bytes_out


@cython.final
cdef class OfPolicy:
    cdef readonly str name
    cdef readonly long long evaluated
    cdef readonly long long matched
    cdef readonly long long kept
    cdef readonly long long dropped
    cdef readonly long long spans_kept
    cdef readonly long long spans_dropped
    cdef readonly long long bytes_kept
    cdef readonly long long bytes_dropped
    cdef readonly double seconds
    cdef public double vote_secs


@cython.final
cdef class Tally:
    cdef readonly Names names
    cdef readonly dict policies
    cdef int _first_too_many
    cdef list _services
    cdef list _new
    cdef list _shown

    cpdef list take_new(self)
    cpdef OfPolicy policy(self, name)
    @cython.locals(number="Py_ssize_t")
    cpdef OfService of(self, int service)
    cdef _grow(self, Py_ssize_t number)
    @cython.locals(counts=OfService)
    cpdef decided(self, Trace trace)
    @cython.locals(trace=Trace, counts=OfService)
    cpdef sent(self, traces)
    @cython.locals(counts=OfPolicy, theirs=OfService)
    cpdef drop_late(self, int service, long long spans, long long payload_bytes)
    @cython.locals(counts=OfPolicy)
    cpdef count(self, decision, long long traces, long long spans, long long payload_bytes)
    @cython.locals(policy=Policy, counts=OfPolicy)
    cpdef take_votes(self, policies)
