# The C types of decision_rows.py, used when it is compiled.

cimport cython
from tss.core.policies.probability cimport randomness
from tss.core.trace cimport Trace


@cython.final
@cython.no_gc  # nothing that it refers to refers to a row
@cython.freelist(1000)
cdef class Row:
    cdef readonly bytes trace_id
    cdef readonly object decision
    cdef readonly int service
    cdef readonly int root
    cdef readonly unsigned long long start_ns
    cdef readonly unsigned long long duration_ns
    cdef readonly long long closed_ms
    cdef readonly long long decided_ms
    cdef readonly long long spans
    cdef readonly long long errors
    cdef readonly long long bytes


cdef class RowQueue:
    cdef Py_ssize_t _max_rows
    cdef long long _threshold
    cdef list _rows
    cdef Py_ssize_t _in_hand
    cdef long long _lost

    @cython.locals(room="Py_ssize_t", trace=Trace, each=Row)
    cpdef add(self, traces, long long decided_ms)


cdef class Columns:
    cdef readonly object start_ns
    cdef readonly object duration_ns
    cdef readonly object closed_ms
    cdef readonly object decided_ms
    cdef readonly object spans
    cdef readonly object errors
    cdef readonly object bytes
    cdef readonly object services
    cdef readonly object roots

    @cython.locals(
        number="Py_ssize_t", row=Row, start="long long[::1]", duration="long long[::1]", closed="long long[::1]",
        decided="long long[::1]", spans="long long[::1]", errors="long long[::1]", sizes="long long[::1]",
        services="int[::1]", roots="int[::1]",
    )
    cdef _fill(self, list rows)


cdef class LineWriter:
    cdef object _names
    cdef list _services
    cdef list _roots
    cdef dict _decisions
    cdef dict _seconds
    cdef list _millis

    @cython.locals(services=list, roots=list, found=list, row=Row)
    cpdef list lines(self, rows)
    cdef str _decided(self, decision)
    @cython.locals(second="long long")
    cdef str _moment(self, long long ms)
    cdef str _second(self, long long second)
