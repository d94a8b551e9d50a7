# The C types of judging.py, used when it is compiled.

cimport cython
from tss.core.buffer cimport Buffer
from tss.core.combining cimport Sampler
from tss.core.conditions.program cimport Program
from tss.core.partition cimport Partition
from tss.core.trace cimport Trace


cdef class Judge:
    cdef Buffer _buffer
    cdef object _choose
    cdef dict _scanners
    cdef readonly str why

    @cython.locals(found=list, trace=Trace, home=Partition)
    cpdef list held(self, list batch)
    @cython.locals(sampler=Sampler)
    cpdef Sampler of(self, Trace trace)
    @cython.locals(sampler=Sampler)
    cpdef bint lacks_spans(self, Trace trace) except -1
    @cython.locals(home=Partition)
    cdef Sampler _sampler(self, Trace trace)
    cdef bint _learn(self, Trace trace, Program program) except -1
