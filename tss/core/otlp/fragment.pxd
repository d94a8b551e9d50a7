# The C types of fragment.py, used when it is compiled.

cimport cython
from tss.core.conditions.program cimport Program


@cython.final
@cython.no_gc  # nothing that it refers to refers to a fragment
@cython.freelist(1000)  # as many as a batch has
cdef class Fragment:
    cdef readonly bytes trace_id
    cdef readonly bytes payload
    cdef readonly long long spans
    cdef readonly long long errors
    cdef readonly unsigned long long start_ns
    cdef readonly unsigned long long end_ns
    cdef readonly bint has_root
    cdef readonly bytes span_ids
    cdef readonly bytes missing
    cdef readonly bytes facts
    cdef readonly bytes forced
    cdef readonly Program rules

    cpdef tuple _fields(self)
    @cython.locals(ids="long long")
    cpdef long long held_bytes(self) except *


cpdef long long facts_bytes(bytes facts) except -1
