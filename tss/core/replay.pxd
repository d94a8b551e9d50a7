# The C types of replay.py, used when it is compiled.

cimport cython
from tss.core.firstmet cimport FirstMet
from tss.core.streamtime cimport StreamTime


cdef class Replay:
    cdef readonly long long first_read
    cdef readonly long long window
    cdef long long _start
    cdef readonly long long secs
    cdef readonly long long certain_from
    cdef StreamTime _time
    cdef bint _is_past_start
    cdef readonly object _seconds
    cdef readonly object _offsets
    cdef long long _last_second
    cdef readonly object _end_seconds
    cdef readonly object _end_firsts
    cdef long long _last_end_second
    cdef long long _last_end_first
    cdef FirstMet _met
    cdef dict _reopened

    @cython.locals(second="long long")
    cpdef read(self, long long offset)
    cpdef read_all(self)
    cdef _certain(self)
    cpdef reopened(self, bytes trace_id, long long offset)
    cpdef remembered(self, bytes trace_id, long long offset)
    @cython.locals(second="long long")
    cpdef ended(self, bytes trace_id, long long first_offset)
    cpdef parked(self, bytes trace_id)
    cpdef long long first_of_parked(self, long long first_ms, long long first_offset, long long parked_to) except? -1
