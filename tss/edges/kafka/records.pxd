# The C types of records.py, for when it is compiled.

cimport cython
from tss.core.otlp.fragment cimport Fragment as CFragment  # for the same reason as the scanner
from tss.core.otlp.scanner cimport Scanner as CScanner  # records.py uses the name Scanner for either of two classes
from tss.core.record cimport Record, record_of


cdef class MessageReader:
    cdef str _topic
    cdef object _encoding
    cdef CScanner _scanner
    cdef object _rules
    cdef bint _keeping
    cdef dict _unread

    @cython.locals(
        records=list, scan_errors=list, fragments=tuple, scanner=CScanner, record=Record, current="long long",
        partition="long long", offset="long long", after="long long", timestamp="long long", ours=bint, size="long long", headers=object,
        taken="long long",
    )
    cpdef read(self, messages, dict positions, gone, long long max_bytes=*)
    cdef list _letters(self, list scan_errors, message, Record record, tuple headers)


@cython.locals(size="long long", fragment=CFragment)
cdef long long _held_bytes(tuple fragments) except -1
