# The C types of program.py, used when it is compiled.

cimport cython

from tss.core.conditions.folding cimport Folder as CompiledFolder


cdef class Program:
    cdef readonly tuple asks
    cdef readonly str fingerprint
    cdef readonly tuple spans
    cdef readonly tuple roots
    cdef readonly tuple windows
    cdef readonly tuple span_codes
    cdef readonly tuple event_codes
    cdef readonly tuple root_codes
    cdef readonly tuple fields
    cdef readonly tuple leaves
    cdef readonly tuple no_value
    cdef readonly tuple generals
    cdef readonly tuple tests_of_field
    cdef readonly bint has_events
    cdef readonly object asked
    cdef dict _slots
    cdef bytes _kinds
    cdef list _places
    cdef list _tests
    cdef Py_ssize_t _span_bytes
    cdef Py_ssize_t _root_bytes
    cdef Py_ssize_t _window_bytes
    cdef bytes _firsts
    cdef list _bounds
    cdef list _rootless
    cdef dict _shared
    cdef object _maker
    cdef dict _automata
    cdef dict _translations
    cdef CompiledFolder _folder

    @cython.locals(kind=int, place=Py_ssize_t)
    cpdef int answer(self, bytes facts, Py_ssize_t slot) except -1
    @cython.locals(at=Py_ssize_t, place=Py_ssize_t, value="long long")
    cpdef long long randomness(self, bytes facts) except? -1
    cpdef int marks(self, bytes facts) except -1
    cpdef Py_ssize_t after_spans(self, bytes facts) except -1
    cpdef Py_ssize_t after_root(self, bytes facts) except -1
    @cython.locals(at=Py_ssize_t)
    cpdef Py_ssize_t after_ot(self, bytes facts) except -1
    cpdef bint covers(self, Program other) except -1
    cpdef bytes translated(self, bytes facts, Program source)
    cpdef bytes fold(self, bytes facts, bytes further)
    cpdef bytes folded(self, bytes facts, bytes further)
    @cython.locals(head=int, more=int, folded=bytearray)
    cdef bytes _folded(self, bytes facts, bytes further)
    @cython.locals(
        mine=int, theirs=int, place=Py_ssize_t, one=int, two=int, trues=int, errors=int, first=int, settled=int
    )
    cdef _fold_spans(self, bytearray folded, bytes facts, bytes further)
    @cython.locals(mine=Py_ssize_t, theirs=Py_ssize_t)
    cdef _fold_root(self, bytearray folded, bytes facts, bytes further)
    @cython.locals(mine=Py_ssize_t, theirs=Py_ssize_t, one=int, two=int)
    cdef _fold_ot(self, bytearray folded, bytes facts, bytes further)
    @cython.locals(
        low="unsigned long long", high="unsigned long long", start="unsigned long long", end="unsigned long long",
        at=Py_ssize_t, place=Py_ssize_t, stairs="long long", bits=bytearray,
    )
    cdef _fold_windows(self, bytearray folded, bytes facts, bytes further)
    cpdef bytes shared(self, bytes facts)


@cython.locals(mine="unsigned long long", theirs="unsigned long long")
cdef bint _is_before(bytes one, Py_ssize_t at, bytes other, Py_ssize_t there) except -1
@cython.locals(value="unsigned long long", place=Py_ssize_t)
cdef unsigned long long _u64(bytes facts, Py_ssize_t at) except? 0
