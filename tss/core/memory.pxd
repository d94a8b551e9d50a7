# The C types of memory.py, for when it is compiled.

cimport cython


cdef class Kept:
    cdef readonly object decision
    cdef readonly tuple first
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
    cdef long long _mask
    cdef long long _count
    cdef long long[::1] _new
    cdef long long[::1] _old

    @cython.locals(key="long long", slot="long long")
    cpdef add(self, bytes trace_id)
    @cython.locals(key="long long")
    cpdef bint has(self, bytes trace_id)
    @cython.locals(mask="long long", slot="long long")
    cdef long long _find(self, long long[::1] table, long long key)


cdef long long _key(bytes trace_id)


cdef class Memory:
    cdef long long _kept_limit
    cdef readonly object _kept
    cdef RecentIds _dropped
    cdef RecentIds _evicted
    cdef long long _evicted_limit
    cdef long long _evictions

    cpdef keep(self, bytes trace_id, decision, tuple first)
    @cython.locals(known=Kept)
    cpdef Kept learn(self, bytes trace_id, Kept kept)
    @cython.locals(kept=Kept)
    cdef _evict(self)
    cpdef drop(self, bytes trace_id)
    @cython.locals(kept=Kept)
    cpdef sending(self, bytes trace_id, list offsets, tuple parked=*)
    @cython.locals(kept=Kept)
    cpdef delivered(self, bytes trace_id, list offsets)
    @cython.locals(kept=Kept)
    cpdef settled(self, bytes trace_id)
    cpdef recall_kept(self, bytes trace_id)
    cpdef covering(self, bytes trace_id)
    cpdef bint has_evicted(self, bytes trace_id)
    cpdef bint was_dropped(self, bytes trace_id)
