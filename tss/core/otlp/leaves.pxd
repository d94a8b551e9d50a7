# The C types of leaves.pyx: the tests of the fields of a program.

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from tss.core.otlp.memo cimport Memo
from tss.core.otlp.found cimport Hit


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
    int64_t least
    int64_t most


cdef struct Asked:  # a field, and up to 64 of its tests, which have their bits in one word
    uint64_t mask
    uint64_t[8] memoised  # by Type: the tests that only Python can answer
    Answers[8] fixed  # by Type: the answers that do not depend on the value. Of NOT_SET: those for an attribute without a value
    Answers[2] of_bool
    TextTest *texts
    TextTest *raw
    NumberTest *numbers
    uint32_t texts_used
    uint32_t raw_used
    uint32_t numbers_used
    uint32_t word
    bint is_distinct  # nearly each span has another value, so that remembering them would be in vain


@cython.final
cdef class Leaves:
    cdef readonly list places  # (field number, the first of its tests) for each Asked
    cdef list bits  # by leaf number: its bit, counted over all words
    cdef list constants  # the objects to whose bytes the tests point
    cdef object program
    cdef Asked *asked
    cdef uint32_t used
    cdef uint32_t words
    cdef uint64_t *missing  # the answers if all fields are missing: words of true, then words of error
    cdef Memo memo

    cdef int answer(self, Hit *hit, uint32_t number, uint64_t *answers) except -1
    cdef int _ask_python(self, Hit *hit, uint32_t number, Answers *found) except -1
    cdef uint64_t weigh(self, Hit *hit) except? 0
    cdef uint64_t held_bytes(self)
    cdef int _lay_out(self) except -1
    cdef int _compile(self, Asked *asked, uint32_t field, uint32_t first) except -1
    cdef int _compile_test(self, Asked *asked, uint64_t bit, test, bint few_texts) except -1
    cdef int _point(self, TextTest *test, uint64_t bit, bytes constant, Operator operator) except -1
    cdef uint64_t _hash(self, Hit *hit, uint32_t number) noexcept
