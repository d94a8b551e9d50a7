# The C types of records.py, for when it is compiled.

cimport cython
from tss.core.otlp.records cimport Records as CRecords  # for the same reason as the scanner
from tss.core.otlp.scanner cimport Scanner as CScanner  # records.py uses the name Scanner for either of two classes


cdef class MessageReader:
    cdef str _topic
    cdef object _encoding
    cdef readonly object program
    cdef object _memo_bytes
    cdef CScanner _scanner
    cdef object _rules
    cdef bint _keeping
    cdef dict _unread

    @cython.locals(
        records=CRecords, scan_errors=list, scanner=CScanner, current="long long", partition="long long", offset="long long",
        after="long long", timestamp="long long", ours=bint, beside="long long", sampled=bint, taken="long long",
    )
    cpdef read(self, messages, dict positions, gone, long long max_bytes=*)
    cdef list _letters(self, list scan_errors, message, tuple place, tuple headers)
