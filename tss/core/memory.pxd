# The C types of memory.py, for when it is compiled.

cimport cython
from tss.core.table cimport Table
from tss.core.verdicts cimport Verdicts


cdef class Kept:
    cdef public object decision
    cdef public tuple first
    cdef public long long rv
    cdef public dict covered
    cdef public set outstanding
    cdef public long long in_flight
    cdef public tuple parked

    cpdef bint has_delivered(self, long long partition, long long offset)
    cpdef bint sends_parked(self, partition, long long offset)
    cpdef send(self, list offsets)
    cpdef deliver(self, list offsets)
    cpdef forget_offsets(self, long long partition)


cdef class RecentIds:
    cdef long long _limit
    cdef Table _new
    cdef Table _old

    cpdef add(self, bytes trace_id)
    @cython.locals(key="long long")
    cpdef bint has(self, bytes trace_id) except -1


cdef class Memory:
    cdef long long _kept_limit
    cdef readonly object _kept
    cdef readonly Verdicts _verdicts
    cdef RecentIds _evicted
    cdef long long _evicted_limit
    cdef long long _evictions

    cpdef long long turn(self, long long partition, long long now_ms) except -1
    cpdef long long closed(self, bytes trace_id) except -1
    cpdef long long look(self, bytes trace_id, long long floor) except -1
    @cython.locals(counts=bint, kept=Kept)
    cpdef keep(self, bytes trace_id, decision, tuple first, long long number=*, long long rv=*)
    @cython.locals(known=Kept)
    cpdef Kept learn(self, bytes trace_id, Kept kept, long long number=*)
    cpdef drop(self, bytes trace_id, long long number=*)
    cdef bint _decide(self, bytes trace_id, long long number, long long code) except -1
    cdef _add(self, bytes trace_id, Kept kept)
    @cython.locals(kept=Kept)
    cdef _evict(self)
    @cython.locals(kept=Kept)
    cpdef sending(self, bytes trace_id, list offsets, tuple parked=*)
    @cython.locals(kept=Kept)
    cpdef delivered(self, bytes trace_id, list offsets)
    @cython.locals(kept=Kept)
    cpdef settled(self, bytes trace_id)
    @cython.locals(code="long long", kept=Kept)
    cpdef recall_kept(self, bytes trace_id, long long floor=*, tuple place=*)
    cpdef covering(self, bytes trace_id)
    cpdef bint has_evicted(self, bytes trace_id)
    cpdef bint was_dropped(self, bytes trace_id, long long floor=*) except -1
