# The C types of streamtime.py, used when it is compiled.

cimport cython


cdef class StreamTime:
    cdef long long _max_skew_ms
    cdef public long long now_ms
    cdef public long long record_ms

    cpdef bint observe(self, long long timestamp_ms, long long wall_ms)
    cpdef long long lead_ms(self)
    cpdef reach(self, long long wall_ms)


cdef class Ring:
    cdef dict _buckets
    cdef long long _turned
    cdef long long _target
    cdef list _due

    @cython.locals(bucket=dict)
    cpdef long long put(self, long long second, entry)
    @cython.locals(bucket=dict)
    cpdef remove(self, long long second, entry)
    cpdef bint is_due(self, long long now_ms)
