# The C types of answering.pyx: a program's answers for the spans of a fragment.

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from tss.core.otlp.leaves cimport Leaves
from tss.core.otlp.found cimport Scan, Trace


cdef struct Step:  # an operation of a formula, see conditions/program.py
    uint8_t operation
    uint8_t bit  # of a leaf in its word
    uint32_t argument  # a truth, the word of a leaf, the number of a general condition, or a step


cdef struct Formula:  # some steps; without any there is no such formula
    uint32_t start
    uint32_t stop
    bint is_general  # whether Python may be asked


cdef struct Window:
    int64_t threshold_ms
    int64_t upper_ms


@cython.final
cdef class Parts:
    """The serialized parts of the span that is looked at, for general conditions. They are made when they are needed."""
    cdef Scan *s
    cdef uint32_t span
    cdef uint32_t of_span
    cdef uint32_t of_resource
    cdef uint32_t of_scope
    cdef bytes body
    cdef bytes resource
    cdef bytes scope
    cdef bytes event
    cdef uint32_t index
    cdef int make(self) except -1


@cython.final
cdef class Answering:
    cdef readonly list fields  # for each Asked
    cdef readonly bint asks_any
    cdef readonly object program
    cdef uint32_t first
    cdef bint weighs
    cdef Leaves leaves
    cdef Step *steps
    cdef Formula *own  # of each OfSpans: its formula for spans
    cdef Formula *of_events
    cdef Formula *of_roots
    cdef Window *windows
    cdef uint32_t spans_used
    cdef uint32_t roots_used
    cdef uint32_t windows_used
    cdef uint32_t words  # of the answers of all OfSpans, 2 bits each
    cdef bint has_generals
    cdef bint has_events
    cdef uint64_t *firsts  # both bits of each OfSpans with Fold.FIRST
    cdef uint64_t *known  # some answers of formulas without general conditions, by the answers of the leaves
    cdef uint32_t stride  # words in `known` for each of them
    cdef list shared  # small facts made lately

    cdef bytes facts(self, Scan *s, Trace *trace)
    cdef uint64_t held_bytes(self)
    cdef int _allocate(self) except -1
    cdef int _compile(self) except -1
    cdef uint32_t _copy(self, tuple code, uint32_t used, Formula *formula) except? 0
    cdef int _truth_of(self, Formula *formula, const uint64_t *answers, Parts parts) except -1
    cdef const uint64_t *_plain_answers(self, const uint64_t *answers) except NULL
    cdef int _look(self, Scan *s, uint32_t number, uint64_t *answers) except -1
    cdef int _ask_generals(self, uint64_t *found, const uint64_t *answers, Parts parts) except -1
    cdef bint _is_settled(self, const uint64_t *found, uint32_t ask) noexcept
    cdef void _fold_one(self, uint64_t *found, uint32_t ask, int truth) noexcept
    cdef int _ask_events(self, Scan *s, uint32_t number, uint64_t *found, uint64_t *answers, Parts parts) except -1
    cdef int _ask_event(self, uint64_t *found, const uint64_t *answers, Parts parts) except -1
    cdef int _weigh(self, Scan *s, uint32_t number, uint64_t *weight) except -1
    cdef bytes _facts(self, Scan *s, Trace *trace, uint64_t *found, uint64_t *shared, uint64_t *answers)
    cdef bytes _written(
        self, Scan *s, Trace *trace, const uint64_t *found, uint64_t weight, uint32_t root, const uint64_t *of_root
    )
    cdef uint8_t *_write_windows(self, Scan *s, Trace *trace, uint8_t *out) noexcept
