# The C types of decision_log.py, used when it is compiled.

cimport cython
from tss.core.combining cimport Sampler
from tss.core.table cimport key_of
from tss.core.trace cimport Trace

cdef long long _LOW
cdef int _ELSEWHERE
cdef int _IN_MS
cdef int _UNASKED
cdef int _GIVEN


cdef class Chunk:
    cdef Py_ssize_t _room
    cdef Py_ssize_t _end
    cdef Py_ssize_t _most_decisions
    cdef readonly Sampler sampler
    cdef Py_ssize_t _words
    cdef readonly Py_ssize_t used
    cdef readonly list decisions
    cdef readonly dict by_id
    cdef object _last
    cdef Py_ssize_t _last_code
    cdef unsigned int[::1] _slots
    cdef unsigned char[::1] _ids
    cdef unsigned int[::1] _closed
    cdef unsigned int[::1] _decided
    cdef unsigned int[::1] _durations
    cdef unsigned int[::1] _spans
    cdef unsigned int[::1] _errors
    cdef unsigned int[::1] _bytes
    cdef unsigned short[::1] _codes
    cdef unsigned short[::1] _late
    cdef unsigned short[::1] _partitions
    cdef unsigned char[::1] _marks
    cdef unsigned int[::1] _votes

    @cython.locals(slots="unsigned int[::1]", slot="Py_ssize_t")
    cpdef bint empty(self, Sampler sampler) except -1
    cpdef bint is_full(self)
    @cython.locals(
        at="Py_ssize_t", trace_id=bytes, first="Py_ssize_t", place="Py_ssize_t", duration="unsigned long long",
        closed="long long", words="Py_ssize_t", to="Py_ssize_t", slot="Py_ssize_t"
    )
    cpdef add(self, Trace trace, decision, long long now_secs, int marks)
    cdef _learn(self, decision)
    cdef Py_ssize_t _slot(self, long long key) noexcept
    @cython.locals(slot="Py_ssize_t", found="Py_ssize_t", at="Py_ssize_t")
    cpdef Py_ssize_t last(self, bytes trace_id, Py_ssize_t below) except -2
    @cython.locals(first="Py_ssize_t", place="Py_ssize_t")
    cdef bint _has(self, Py_ssize_t at, bytes trace_id) noexcept
    cpdef add_late(self, Py_ssize_t at, long long spans)


cdef class DecisionLog:
    cdef long long _max_bytes
    cdef list _chunks
    cdef list _open
    cdef public long long now_secs

    @cython.locals(chunk=Chunk)
    cpdef add(self, Trace trace, decision, Sampler sampler, int marks=*)
    @cython.locals(sampler=Sampler, count="Py_ssize_t")
    cpdef follow(self, Trace trace, decision=*)
    @cython.locals(number="Py_ssize_t", chunk=Chunk, at="Py_ssize_t")
    cpdef late(self, bytes trace_id, long long spans)
    @cython.locals(chunk=Chunk)
    cdef Chunk _chunk_of(self, Sampler sampler)
    @cython.locals(oldest=Chunk)
    cdef Chunk _fresh(self, Sampler sampler)
