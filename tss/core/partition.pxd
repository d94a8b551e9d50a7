# The C types of partition.py, used when it is compiled.

cimport cython
from tss.core.progress cimport Progress
from tss.core.replay cimport Replay
from tss.core.streamtime cimport Ring


cdef class Partition(Progress):
    cdef readonly long long start
    cdef readonly Replay replay
    cdef readonly long long horizon
    cdef readonly long long horizon_ms
    cdef public object committed
    cdef readonly Ring ring
    cdef public dict unclocked
    cdef public long long position
    cdef public long long remembered_from
    cdef public long long lag
    cdef public bint revoked
    cdef public bint gone
    cdef public bint replaced
    cdef public str topic
    cdef public dict delivered
    cdef readonly long long delivered_bytes
    cdef public long long next_look
    cdef readonly object produced
    cdef public object rules
    cdef public long long ruled_to
    cdef public tuple committed_rules
    cdef public object sampler
    cdef public long long sampler_from
    cdef readonly long long settled_second
    cdef public long long margin_secs
    cdef public object shelf
    cdef public object committed_place
    cdef readonly object stamps
    cdef long long _stamped_second

    @cython.locals(second="long long")
    cpdef mark(self, long long offset)
    cpdef reached(self)
