# The C types of ledger.py, used when it is compiled.

cimport cython


cdef class Chunk:
    cdef long long start
    cdef long long head
    cdef readonly long long held
    cdef unsigned int[::1] counts

    cpdef long long oldest(self) except -1


cdef class Ledger:
    cdef readonly long long next
    cdef long long _held
    cdef dict _chunks
    cdef Chunk _last

    cpdef read(self, long long offset)
    @cython.locals(chunk=Chunk, number="long long")
    cpdef hold(self, long long offset)
    @cython.locals(newest=Chunk)
    cdef _drop_empty(self)
    @cython.locals(chunk=Chunk)
    cpdef settle(self, long long offset)
    @cython.locals(last=Chunk, found=Chunk)
    cdef Chunk _chunk(self, long long offset)
