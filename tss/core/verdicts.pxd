# The C types of verdicts.py, for when it is compiled.

cimport cython
from tss.core.table cimport Table


# C numbers: otherwise each use is a dictionary lookup and a Python integer.
cdef long long _TABLES
cdef long long _CODE_BITS
cdef long long _CODES
cdef long long _UNDECIDED
cdef long long _UNKNOWN


cdef class Lookback:
    cdef list _marks
    cdef long long _step
    cdef long long _step_ms
    cdef long long _steps
    cdef long long _forgotten
    cdef readonly long long floor
    cdef public bint ours

    @cython.locals(step="long long", oldest="long long")
    cpdef turn(self, long long now_ms, long long number)


cdef class Verdicts:
    cdef long long _limit
    cdef double _secs
    cdef list _tables
    cdef dict _lookbacks
    cdef list _decisions
    cdef dict _codes
    cdef long long _made
    cdef readonly long long next

    @cython.locals(lookback=Lookback)
    cpdef long long turn(self, long long partition, long long now_ms) except -1
    cdef long long _first(self)
    @cython.locals(each=Lookback)
    cdef long long _oldest(self) except -1
    @cython.locals(number="long long", key="long long", floor="long long", table=Table)
    cpdef long long close(self, bytes trace_id) except -1
    @cython.locals(key="long long", known="long long", table=Table)
    cpdef bint decide(self, bytes trace_id, long long number, long long code) except -1
    @cython.locals(key="long long", known="long long", number="long long", table=Table)
    cpdef long long look(self, bytes trace_id, long long floor) except -1
