# The C types of partition.py, for when it is compiled.

cimport cython
from tss.core.firstmet cimport FirstMet
from tss.core.ledger cimport Ledger
from tss.core.streamtime cimport Ring, StreamTime


cdef class Partition:
    cdef readonly long long id
    cdef readonly long long start
    cdef readonly object replay_from
    cdef readonly long long horizon
    cdef readonly long long horizon_ms
    cdef public object committed
    cdef readonly Ledger ledger
    cdef readonly StreamTime time
    cdef readonly Ring ring
    cdef public dict unclocked
    cdef public long long position
    cdef public long long remembered_from
    cdef public long long in_flight
    cdef public long long lag
    cdef public bint revoked
    cdef public bint gone
    cdef public bint replaced
    cdef public str topic
    cdef public dict delivered
    cdef readonly long long delivered_bytes
    cdef public long long next_look
    cdef readonly object produced
    cdef public object shelf
    cdef public object committed_place
    cdef long long _replay_secs
    cdef bint _past_replay
    cdef readonly object _mark_seconds
    cdef readonly object _mark_offsets
    cdef long long _marked_second
    cdef long long _stamped_second
    cdef readonly object stamps
    cdef readonly object _ended_seconds
    cdef readonly object _ended_firsts
    cdef long long _ended_second
    cdef long long _ended_first
    cdef FirstMet _met
    cdef dict _taken_up

    @cython.locals(second="long long")
    cpdef mark(self, long long offset)
    cpdef reached(self)
    cpdef began(self, bytes trace_id, long long offset)
    cpdef knew(self, bytes trace_id, long long offset)
    @cython.locals(second="long long")
    cpdef ended(self, bytes trace_id, long long first_offset)
