# The C interface of scanner.pyx, for other compiled modules.

from libc.stdint cimport uint64_t

from tss.core.otlp.answering cimport Answering
from tss.core.otlp.found cimport Wanted


cdef class Scanner:
    cdef Wanted wanted
    cdef list keys  # the keys; the tables point to their bytes
    cdef Answering answering
    cdef Scanner ruling  # of the force rules
    cdef object rules
    cpdef uint64_t held_bytes(self)
    cpdef tuple fragments(self, value, encoding, list scan_errors)
    cpdef use(self, rules)
    cdef tuple scan(self, bytes message, bytes arrived, list scan_errors)
