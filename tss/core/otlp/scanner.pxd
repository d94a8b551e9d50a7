# The C interface of scanner.pyx, for other compiled modules.

from libc.stdint cimport uint64_t

from tss.core.otlp.answering cimport Answering
from tss.core.otlp.found cimport Wanted
from tss.core.otlp.records cimport Records


cdef class Scanner:
    cdef Wanted wanted
    cdef list keys  # the keys; the tables point to their bytes
    cdef Answering answering
    cdef Answering ruling  # of the force rules
    cdef uint64_t memo_bytes
    cdef object rules
    cpdef uint64_t held_bytes(self)
    cpdef Records records(self)
    cpdef int read(self, value, encoding, Records records, list scan_errors) except -1
    cpdef tuple fragments(self, value, encoding, list scan_errors)
    cpdef use(self, rules)
    cdef int scan(self, bytes message, bytes arrived, Records records, list scan_errors) except -1
