# The C types of kafka_records.py, for when it is compiled.

cimport cython
from tss.core.record cimport Record


cdef class Reader:
    cdef str _topic
    cdef object _encoding
    cdef object _scanner

    @cython.locals(records=list, faults=list, current="long long", partition="long long", ours=bint, size="long long")
    cpdef read(self, messages, dict positions, gone)
    cdef list _letters(self, list faults, message, Record record)
