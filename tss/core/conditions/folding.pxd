# The C types of folding.pyx: facts of a trace and of a fragment become one.

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct Layout:  # where the parts of facts begin; NULL: it is not there
    const uint8_t *spans
    const uint8_t *root
    const uint8_t *ot
    const uint8_t *windows
    uint32_t stairs


cdef struct Bounds:
    int64_t threshold_ms
    int64_t upper_ms


@cython.final
cdef class Folder:
    cdef uint32_t span_bytes
    cdef uint32_t root_bytes
    cdef uint32_t window_bytes
    cdef uint32_t windows
    cdef Bounds *bounds
    cdef bytes firsts
    cdef list shared  # small facts made lately

    cpdef bytes fold(self, bytes facts, bytes further)
    cdef int _lay_out(self, bytes facts, Layout *found) except -1
    cdef bytes _made(self, bytes facts, bytes further, const uint8_t *at, Py_ssize_t size)
    cdef uint8_t *_fold_spans(self, Layout *mine, Layout *theirs, uint8_t *out) noexcept
    cdef uint8_t *_fold_windows(self, Layout *mine, Layout *theirs, uint8_t *out) noexcept
