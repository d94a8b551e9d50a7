# The C types of shared_decisions.py, for when it is compiled.

cimport cython
from tss.core.memory cimport Kept, Memory
from tss.core.partition cimport Partition
from tss.core.trace cimport Trace


@cython.locals(asked=list, trace=Trace)
cpdef list unknown_here(list batch, Memory memory, long long ttl_ms)


@cython.locals(home=Partition, first_offset="long long")
cpdef bint could_be_known(Trace trace, Memory memory, long long ttl_ms) except -1


@cython.locals(home=Partition, since_ms="long long")
cdef bint _may_be_a_rest(Trace trace, long long ttl_ms) except -1


@cython.locals(first_offset="long long")
cdef bint _may_be_reached(Trace trace, dict bounds) except -1


@cython.locals(trace=Trace, home=Partition, first_offset="long long")
cpdef dict _from_offsets(list whole)


@cython.locals(trace=Trace, anywhere=list, whole=list, bounds=dict)
cpdef tuple within_reach(list asked, dict reaches, Memory memory)


cpdef bytes to_bytes(Kept kept, long long mark=*)
