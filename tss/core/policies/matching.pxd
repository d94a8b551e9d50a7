# The C types of matching.py, used when it is compiled.

cimport cython
from tss.core.conditions.program cimport Program
from tss.core.policies.policy cimport Policy
from tss.core.trace cimport Trace


cdef class Matching(Policy):
    cdef readonly object statement
    cdef double _abstain
    cdef double _failed
    cdef Node _node

    cpdef bind(self, program)
    cpdef int answer(self, Trace trace) except -1
    @cython.locals(answer=int)
    cpdef double vote(self, Trace trace) except? -3


cdef class Node:
    cpdef int answer(self, Trace trace) except -1


cdef class _Asked(Node):
    cdef Program program
    cdef Py_ssize_t slot

    cpdef int answer(self, Trace trace) except -1


cdef class _Duration(Node):
    cdef unsigned long long low
    cdef unsigned long long high

    @cython.locals(value="unsigned long long")
    cpdef int answer(self, Trace trace) except -1


cdef class _Spans(Node):
    cdef long long low
    cdef long long high

    cpdef int answer(self, Trace trace) except -1


cdef class _Errors(Node):
    cdef long long low
    cdef long long high

    cpdef int answer(self, Trace trace) except -1


cdef class _Computed(Node):
    cdef object of

    cpdef int answer(self, Trace trace) except -1


cdef class _Every(Node):
    cdef tuple nodes

    @cython.locals(node=Node, answer=int, found=int)
    cpdef int answer(self, Trace trace) except -1


cdef class _Some(Node):
    cdef tuple nodes

    @cython.locals(node=Node, answer=int, found=int)
    cpdef int answer(self, Trace trace) except -1


cdef class _Denied(Node):
    cdef Node node

    @cython.locals(answer=int)
    cpdef int answer(self, Trace trace) except -1
