# The C types of routing.py, used when it is compiled.

cimport cython
from tss.core.conditions.program cimport Program


cdef class Router:
    cdef readonly tuple asks
    cdef bint _routes
    cdef list _takers
    cdef list _slots
    cdef Program _program
    cdef dict _ways
    cdef dict _known
    cdef object _last_policy
    cdef bytes _last_facts
    cdef tuple _last

    cpdef destinations(self, policy, bytes facts)
    @cython.locals(answers=bytearray, place=Py_ssize_t)
    cdef tuple _of(self, policy, bytes facts)
