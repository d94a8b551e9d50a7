# The C interface of lineage.pyx, for other compiled modules.

from libc.stdint cimport uint32_t, uint64_t

from tss.core.otlp.records cimport Records


cdef class Lineage:
    cdef uint64_t *ids
    cdef uint32_t room
    cdef uint32_t used
    cdef uint32_t named  # the open ids among `used`
    cdef bint odd  # whether a parent id of invalid length was named
    cdef bint full
    cdef readonly long long open
    cpdef take(self, Records records, Py_ssize_t at)
    cpdef add(self, bytes span_ids, bytes missing)
    cdef void count(self) noexcept
    cdef int enter(self, uint64_t id, bint seen) except -1
    cdef int enter_small(self, uint64_t id, bint seen) except -1
    cdef int widen(self) except -1
    cdef int enter_large(self, uint64_t id, bint seen) except -1
    cdef int rebuild(self, uint32_t room) except -1
    cdef void forget(self) noexcept
    cdef readonly long long bytes
    cpdef tuple known(self)
    cpdef overflow(self)
