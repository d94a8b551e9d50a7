# The C types of opentraces.py, used when it is compiled.

cimport cython
from tss.core.trace cimport Trace


cdef class OpenTraces:
    cdef dict _by_id
    cdef readonly Trace oldest
    cdef Trace _newest
    cdef Trace _liveliest
    cdef public Trace to_pack

    cpdef Trace get(self, bytes trace_id)
    cpdef list all(self)
    cpdef add(self, Trace trace)
    cpdef touch(self, Trace trace)
    cpdef remove(self, Trace trace)
    cpdef renew(self, Trace trace)
    cdef _join_age(self, Trace trace)
    @cython.locals(older=Trace, newer=Trace)
    cdef _leave_age(self, Trace trace)
    cdef _append(self, Trace trace)
    @cython.locals(quieter=Trace, livelier=Trace)
    cdef _take_out(self, Trace trace)
