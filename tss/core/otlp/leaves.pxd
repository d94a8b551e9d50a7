# The C types of leaves.pyx: the tests of the fields of a program.

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from tss.core.otlp.memo cimport Memo
from tss.core.otlp.found cimport Hit, Scan


cdef enum Operator:
    EQUAL
    UNEQUAL
    LESS
    AT_MOST
    GREATER
    AT_LEAST


cdef struct Answers:  # a bit for each test of a word
    uint64_t trues
    uint64_t errors


cdef struct TextTest:  # the comparison of a text, or of bytes, with a constant
    uint64_t bit
    const uint8_t *at
    uint32_t size
    Operator operator


cdef struct NumberTest:
    uint64_t bit
    double real
    Operator operator
    # An int satisfies it if it lies from `least` to `most`, or if it does not.
    bint is_outside
    bint is_whole  # else an int is compared as a float
    bint is_for_ints  # the answer for floats is fixed
    int64_t least
    int64_t most


cdef struct Automaton:  # see conditions/automaton.py
    const uint8_t *classes
    const uint16_t *table
    uint64_t *found  # by state
    uint32_t shift
    uint32_t start
    uint32_t finals


cdef struct Asked:  # a field, and up to 64 of its tests, which have their bits in one word
    uint64_t mask
    uint64_t[8] memoised  # by Type: the tests that only Python can answer
    Answers[8] fixed  # by Type: the answers that do not depend on the value. Of NOT_SET: those for an attribute without a value
    Answers[2] of_bool
    TextTest *texts
    TextTest *raw
    NumberTest *numbers
    Automaton *automata
    uint64_t matched  # the tests that the automata answer
    uint64_t flipped  # those of them that are true without a match
    Answers of_empty  # for the empty text
    uint32_t automata_used
    uint32_t texts_used
    uint32_t raw_used
    uint32_t numbers_used
    uint32_t word
    bint is_distinct  # nearly each span has another value, so that remembering them would be in vain


@cython.final
cdef class Leaves:
    cdef readonly list places  # (field number, the first of its tests) for each Asked
    cdef list bits  # by leaf number: its bit, counted over all words
    cdef list constants  # the objects to whose bytes the tests and automata point
    cdef object program
    cdef Asked *asked
    cdef uint32_t used
    cdef uint32_t words
    cdef uint64_t *missing  # the answers if all fields are missing: words of true, then words of error
    cdef Memo memo

    cdef int answer(self, Scan *s, uint32_t hit, uint32_t first, uint64_t *answers) except -1
    cdef int _remembered(self, Hit *hit, uint32_t number, Answers *found) except -1
    cdef int _ask_python(self, Hit *hit, uint32_t number, Answers *found) except -1
    cdef uint64_t weigh(self, Hit *hit) except? 0
    cdef uint64_t held_bytes(self)
    cdef int _lay_out(self) except -1
    cdef int _compile(self, Asked *asked, uint32_t field, uint32_t first) except -1
    cdef int _compile_test(self, Asked *asked, uint64_t bit, test, bint few_texts) except -1
    cdef int _compile_range(self, Asked *asked, uint64_t bit, tuple bounds) except -1
    cdef int _compile_automata(self, Asked *asked, uint32_t field, uint32_t first, uint32_t shift) except -1
    cdef int _point(self, TextTest *test, uint64_t bit, bytes constant, Operator operator) except -1
    cdef uint64_t _hash(self, Hit *hit, uint32_t number) noexcept
