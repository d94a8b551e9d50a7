# The C types of folding.pyx: facts of a trace and of a fragment become one.

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

cdef enum:
    SHARED = 64  # small facts that are remembered, a power of two
    SHARED_BYTES = 16


cdef inline bytes shared_facts(list made, const uint8_t *at, Py_ssize_t size):
    """These facts as an object. Most traces have the same few, so that sharing them saves time and memory. `made` has SHARED
    entries: the small facts made lately, at first empty ones."""
    cdef uint32_t hash = 0
    cdef Py_ssize_t number
    cdef bytes known
    if size > SHARED_BYTES:
        return PyBytes_FromStringAndSize(<const char *> at, size)
    for number in range(size):
        hash = (hash ^ at[number]) * 0x9E3779B1u
    hash = hash >> 16 & (SHARED - 1)
    known = <bytes> made[hash]
    if PyBytes_GET_SIZE(known) != size or memcmp(PyBytes_AS_STRING(known), at, size) != 0:
        known = PyBytes_FromStringAndSize(<const char *> at, size)
        made[hash] = known
    return known


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
