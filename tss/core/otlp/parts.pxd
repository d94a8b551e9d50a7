# The functions of parts.pyx that the scanner uses.

from tss.core.otlp.found cimport Scan, Trace

cdef bint affordable(Scan *s) noexcept nogil
cdef bytes part_of(Scan *s, Trace *trace)
