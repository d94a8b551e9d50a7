# The C types of record.py, for when it is compiled.

cimport cython


@cython.final
@cython.freelist(1000)  # as many as a batch has
cdef class Record:
    cdef readonly long long partition
    cdef readonly long long offset
    cdef readonly long long timestamp_ms
    cdef readonly tuple fragments

    cdef tuple _fields(self)


@cython.locals(record=Record)
cpdef Record record_of(long long partition, long long offset, long long timestamp_ms, tuple fragments)


@cython.locals(found=list, run=list, record=Record, partition="long long", offset="long long")
cpdef list runs(records)
