# The C types of progress.py, used when it is compiled.

from tss.core.ledger cimport Ledger
from tss.core.streamtime cimport StreamTime


cdef class Progress:
    cdef readonly long long id
    cdef readonly Ledger ledger
    cdef readonly StreamTime time
    cdef public long long in_flight
