# The C types of votes.py, used when it is compiled.

cimport cython
from tss.core.collector.hashing cimport fnv
from tss.core.conditions.program cimport Program
from tss.core.policies.probability cimport randomness
from tss.core.trace cimport Trace

cdef int _FALSE
cdef int _TRUE
cdef int _ERROR
cdef int _SAW


cdef class Vote:
    cdef readonly tuple asks
    cdef readonly bint by_chance
    cdef readonly long long threshold

    cpdef bind(self, Program program)
    cpdef int of(self, Trace trace) except -1
    cpdef double rate(self, Trace trace) except -1


cdef class Always(Vote):
    cpdef int of(self, Trace trace) except -1


cdef class Held(Vote):
    cdef readonly bint inverted
    cdef Py_ssize_t _slot
    cdef Program _program

    cpdef bind(self, Program program)
    @cython.locals(answer=int)
    cpdef int of(self, Trace trace) except -1


cdef class AnyHeld(Vote):
    cdef tuple _slots
    cdef Program _program

    cpdef bind(self, Program program)
    cpdef int of(self, Trace trace) except -1


cdef class SpanCount(Vote):
    cdef long long _least
    cdef long long _most

    cpdef int of(self, Trace trace) except -1


cdef class Chosen(Vote):
    cdef readonly str salt
    cdef readonly double share
    cdef unsigned long long _highest
    cdef unsigned long long _salted
    cdef bint _consistent
    cdef Program _program

    cpdef bind(self, Program program)
    cpdef str die(self, Trace trace)
    cpdef bint is_consistent(self, Trace trace) except -1
    @cython.locals(given="long long", found="long long")
    cpdef int of(self, Trace trace) except -1
    cpdef double rate(self, Trace trace) except -1


cdef class AllOf(Vote):
    cdef readonly tuple members
    cdef readonly Chosen only

    @cython.locals(member=Vote)
    cpdef bind(self, Program program)
    @cython.locals(member=Vote, answer=int)
    cpdef int of(self, Trace trace) except -1
    @cython.locals(member=Vote)
    cpdef double rate(self, Trace trace) except -1
    cdef double _joined(self, Trace trace) except -1


cdef class Opposite(Vote):
    cdef readonly Vote member

    cpdef bind(self, Program program)
    @cython.locals(answer=int)
    cpdef int of(self, Trace trace) except -1
    cpdef double rate(self, Trace trace) except -1
