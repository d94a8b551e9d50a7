# The C side of scanner.pyx, for those who are compiled too.

from tss.core.otlp.found cimport Wanted


cdef class Scanner:
    cdef Wanted wanted
    cdef list keys  # whose bytes the tables point to
    cdef list texts  # some of the last values found
    cpdef tuple fragments(self, value, encoding, list scan_errors)
    cpdef list each_span(self, bytes message)
    cdef tuple scan(self, bytes message, bytes arrived, list scan_errors)
