# The C interface of scanner.pyx, for other compiled modules.

from tss.core.otlp.found cimport Wanted


cdef class Scanner:
    cdef Wanted wanted
    cdef object program
    cdef bint asks_facts
    cdef list keys  # the keys; the tables point to their bytes
    cdef list texts  # some texts found lately, to be shared
    cpdef tuple fragments(self, value, encoding, list scan_errors)
    cpdef list each_span(self, bytes message)
    cdef tuple scan(self, bytes message, bytes arrived, list scan_errors)
