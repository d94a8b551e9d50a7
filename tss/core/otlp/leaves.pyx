# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The tests of a program's fields, answered without Python where that is possible, else through a memory of answers.

Each field has its tests in words of 64 bits. A value found in a record (`Hit`) sets the bits of its field's tests. In C are
the comparisons of texts, bytes and numbers with a constant, and all tests of a missing value and of a bool, whose answers
are known beforehand. `Program.answers` gives all others, once for each distinct value.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from tss.core.otlp.memo cimport Entry, Memo, find, hash_of, memo_bytes, put, set_up
from tss.core.otlp.protobuf cimport is_same
from tss.core.otlp.found cimport ARRAY, BOOL, BYTES, DOUBLE, INT, MAP, NONE, NOT_SET, TEXT, Hit, Scan, hits

from tss.core.conditions.formula import Compare
from tss.core.otlp.anyvalue import array, mapping
from tss.core.tracestate import weight_of

cdef enum:
    MOST_TESTS = 64  # of an Asked
    # Beyond this many comparisons of one field with texts, one look into the memory is cheaper.
    MOST_TEXTS = 12
    UNKNOWN = 0  # the state of an automaton after a letter beyond ASCII
    OF_TRACE_STATES = 0xFFFFFFFF  # instead of the number of an Asked, in the hash of a value
    RV_BITS = 56

cdef dict OPERATORS = {
    "==": EQUAL, "!=": UNEQUAL, "<": LESS, "<=": AT_MOST, ">": GREATER, ">=": AT_LEAST,
}
# Fields of which nearly each span has another value.
cdef frozenset DISTINCT = frozenset((
    "trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano", "duration", "time_unix_nano",
))


cdef inline bint holds(Operator operator, int order) noexcept nogil:
    """Whether a comparison holds. `order` is -1, 0 or 1; 2 if there is no order, as with NaN."""
    if operator == EQUAL:
        return order == 0
    if operator == UNEQUAL:
        return order != 0
    if operator == LESS:
        return order == -1
    if operator == AT_MOST:
        return order == -1 or order == 0
    if operator == GREATER:
        return order == 1
    return order == 1 or order == 0


cdef inline int order_of_reals(double one, double two) noexcept nogil:
    return -1 if one < two else 1 if one > two else 0 if one == two else 2


cdef inline int order_of_bytes(const uint8_t *at, uint64_t size, TextTest *test) noexcept nogil:
    cdef uint64_t common = size if size < test.size else test.size
    cdef int order = memcmp(at, test.at, common) if common else 0
    if common == 0 and size != test.size:
        return 2  # bytes without any are nil, which has no order
    if order:
        return 1 if order > 0 else -1
    return (size > test.size) - (size < test.size)


cdef inline uint64_t of_texts(TextTest *tests, uint32_t count, const uint8_t *at, uint64_t size) noexcept nogil:
    """The tests that hold, all of which are == or !=."""
    cdef uint64_t found = 0
    cdef uint32_t number
    for number in range(count):
        if (tests[number].size == size and is_same(at, tests[number].at, size)) == (
            tests[number].operator == EQUAL
        ):
            found |= tests[number].bit
    return found


cdef inline bint of_automata(Asked *asked, const uint8_t *text, uint64_t size, uint64_t *trues) noexcept nogil:
    """Add the tests that are true of a text that is not empty. False if the automata do not know all of them."""
    cdef const uint8_t *at
    cdef const uint8_t *stop = text + size
    cdef const uint8_t *classes
    cdef const uint16_t *table
    cdef uint64_t found = 0
    cdef uint32_t number, state, finals
    for number in range(asked.automata_used):
        classes, table = asked.automata[number].classes, asked.automata[number].table
        state, finals = asked.automata[number].start, asked.automata[number].finals
        at = text
        while at < stop:
            state = table[state + classes[at[0]]]
            at += 1
            if state < finals:
                break
        if state == UNKNOWN:
            return False
        found |= asked.automata[number].found[state >> asked.automata[number].shift]
    trues[0] |= found ^ asked.flipped
    return True


cdef uint64_t of_raw(TextTest *tests, uint32_t count, const uint8_t *at, uint64_t size) noexcept nogil:
    cdef uint64_t found = 0
    cdef uint32_t number
    for number in range(count):
        if holds(tests[number].operator, order_of_bytes(at, size, tests + number)):
            found |= tests[number].bit
    return found


cdef inline uint64_t of_whole(NumberTest *tests, uint32_t count, int64_t value) noexcept nogil:
    cdef uint64_t found = 0
    cdef uint32_t number
    for number in range(count):
        if tests[number].is_whole:
            if (tests[number].least <= value <= tests[number].most) != tests[number].is_outside:
                found |= tests[number].bit
        elif holds(tests[number].operator, order_of_reals(<double> value, tests[number].real)):
            found |= tests[number].bit
    return found


cdef uint64_t of_real(NumberTest *tests, uint32_t count, double value) noexcept nogil:
    cdef uint64_t found = 0
    cdef uint32_t number
    for number in range(count):
        if not tests[number].is_for_ints and holds(tests[number].operator, order_of_reals(value, tests[number].real)):
            found |= tests[number].bit
    return found


cdef inline bint plain_answers(Asked *asked, Hit *hit, Answers *found) noexcept nogil:
    """The answers for a value that need no Python. False if there are others."""
    cdef uint64_t trues = asked.fixed[hit.type].trues, errors = asked.fixed[hit.type].errors
    cdef bint is_known = asked.memoised[hit.type] == 0
    cdef double real
    if hit.type == TEXT:
        if asked.texts_used:
            trues |= of_texts(asked.texts, asked.texts_used, hit.at, hit.bits)
        if asked.automata_used:
            if hit.bits == 0:
                trues |= asked.of_empty.trues
                errors |= asked.of_empty.errors
            elif not of_automata(asked, hit.at, hit.bits, &trues):
                is_known = False
    elif hit.type == INT:
        trues |= of_whole(asked.numbers, asked.numbers_used, <int64_t> hit.bits)
    elif hit.type == BOOL:
        trues, errors = asked.of_bool[hit.bits].trues, asked.of_bool[hit.bits].errors
    elif hit.type == DOUBLE:
        memcpy(&real, &hit.bits, 8)
        trues |= of_real(asked.numbers, asked.numbers_used, real)
    elif hit.type == BYTES:
        trues |= of_raw(asked.raw, asked.raw_used, hit.at, hit.bits)
    found.trues, found.errors = trues, errors
    return is_known


cdef object value_of(Hit *hit):
    """The value as Python has it."""
    cdef double number
    if hit.type == TEXT:
        return PyUnicode_DecodeUTF8(<const char *> hit.at, hit.bits, "replace")
    if hit.type == BOOL:
        return hit.bits != 0
    if hit.type == INT:
        return <int64_t> hit.bits
    if hit.type == DOUBLE:
        memcpy(&number, &hit.bits, 8)
        return number
    content = PyBytes_FromStringAndSize(<const char *> hit.at, hit.bits)
    if hit.type == BYTES:
        return content
    return array(content) if hit.type == ARRAY else mapping(content)


cdef Answers wanted_of(tuple answers, uint64_t wanted):
    """The answers of `Program.answers` for up to MOST_TESTS tests."""
    cdef Answers found
    found.trues = <uint64_t> answers[0] & wanted
    found.errors = <uint64_t> answers[1] & wanted
    return found


cdef bint is_plain_text(object constant):
    """Whether equality with this text is equality of bytes. Bytes that are not UTF-8 are read as U+FFFD, and no text that is
    read has surrogates."""
    return type(constant) is str and "\ufffd" not in constant and constant.encode("utf-8", "replace").decode() == constant


cdef bint is_number(object constant):
    if type(constant) is int:
        return -(2**63) <= constant < 2**63
    return type(constant) is float


cdef int set_bounds(NumberTest *test, Operator operator, int64_t constant) except -1:
    """Write a comparison of ints as bounds."""
    test.least, test.most, test.is_outside = INT64_MIN, INT64_MAX, operator in (UNEQUAL, GREATER, LESS)
    if operator == EQUAL or operator == UNEQUAL:
        test.least = test.most = constant
    elif operator == AT_LEAST or operator == LESS:
        test.least = constant
    else:
        test.most = constant
    return 0


cdef class Leaves:
    """The tests of a program."""

    def __cinit__(self, program, uint64_t memo_bytes):
        cdef uint32_t number
        set_up(&self.memo, memo_bytes)
        self.program = program
        self.constants = []
        self.bits = [0] * len(program.leaves)
        self.places = [
            (field, first)
            for field in range(len(program.fields))
            for first in range(0, len(program.tests_of_field[field]), MOST_TESTS)
        ]
        self.asked = <Asked *> calloc(len(self.places) or 1, sizeof(Asked))
        if self.asked == NULL:
            raise MemoryError
        self.used = len(self.places)
        self._lay_out()
        self.missing = <uint64_t *> calloc(2 * self.words, sizeof(uint64_t))
        if self.missing == NULL:
            raise MemoryError
        for number in range(self.used):
            field, first = self.places[number]
            self._compile(self.asked + number, field, first)

    def __dealloc__(self):
        cdef uint32_t number, place
        if self.asked != NULL:
            for number in range(self.used):
                free(self.asked[number].texts)
                free(self.asked[number].raw)
                free(self.asked[number].numbers)
                for place in range(self.asked[number].automata_used):
                    free(self.asked[number].automata[place].found)
                free(self.asked[number].automata)
        free(self.asked)
        free(self.missing)
        free(self.memo.entries)

    cdef int _lay_out(self) except -1:
        """Give each test a bit. The tests of an Asked are in one word."""
        cdef uint32_t number, free_bit = 0, count
        cdef uint64_t ones
        for number, (field, first) in enumerate(self.places):
            leaves = self.program.tests_of_field[field][first : first + MOST_TESTS]
            count = len(leaves)
            if free_bit % 64 + count > 64:
                free_bit = (free_bit // 64 + 1) * 64
            ones = <uint64_t> -1 if count == 64 else (<uint64_t> 1 << count) - 1
            self.asked[number].word = free_bit // 64
            self.asked[number].mask = ones << free_bit % 64
            for at, leaf in enumerate(leaves):
                self.bits[leaf] = free_bit + at
            free_bit += count
        self.words = (free_bit + 63) // 64 or 1
        return 0

    cdef int _compile(self, Asked *asked, uint32_t field, uint32_t first) except -1:
        """Find what C can answer."""
        leaves = self.program.tests_of_field[field][first : first + MOST_TESTS]
        cdef uint32_t count = len(leaves), shift = self.bits[leaves[0]] % 64, at, texts = 0
        cdef uint64_t ones = asked.mask >> shift, bit
        cdef Answers found
        asked.is_distinct = self.program.fields[field].name in DISTINCT
        asked.texts = <TextTest *> calloc(count, sizeof(TextTest))
        asked.raw = <TextTest *> calloc(count, sizeof(TextTest))
        asked.numbers = <NumberTest *> calloc(count, sizeof(NumberTest))
        if asked.texts == NULL or asked.raw == NULL or asked.numbers == NULL:
            raise MemoryError
        samples = {NOT_SET: _default(self.program.fields[field]), TEXT: "", INT: 0, DOUBLE: 0.0, BYTES: b"x"}
        for kind, sample in samples.items():
            found = wanted_of(self.program.answers(field, sample, first, MOST_TESTS), ones)
            asked.fixed[<int> kind].trues, asked.fixed[<int> kind].errors = found.trues << shift, found.errors << shift
        for at in range(2):
            found = wanted_of(self.program.answers(field, at == 1, first, MOST_TESTS), ones)
            asked.of_bool[at].trues, asked.of_bool[at].errors = found.trues << shift, found.errors << shift
        for kind in (TEXT, INT, DOUBLE, BYTES, ARRAY, MAP):
            asked.memoised[<int> kind] = asked.mask
        self.missing[asked.word] |= asked.fixed[<int> NOT_SET].trues
        self.missing[self.words + asked.word] |= asked.fixed[<int> NOT_SET].errors
        if self.program.fields[field].name == "attributes":  # an attribute that is there without a value is not always missing
            found = wanted_of(self.program.answers_of_no_value(field, first, MOST_TESTS), ones)
            asked.fixed[<int> NOT_SET].trues, asked.fixed[<int> NOT_SET].errors = found.trues << shift, found.errors << shift
        found = wanted_of(self.program.answers(field, "", first, MOST_TESTS), ones)
        asked.of_empty.trues, asked.of_empty.errors = found.trues << shift, found.errors << shift
        tests = [self.program.leaves[leaf].test for leaf in leaves]
        texts = len([test for test in tests if type(test) is Compare and type(test.constant) is str])
        for at, test in enumerate(tests):
            bit = <uint64_t> 1 << (at + shift)
            if type(test) is Compare:
                self._compile_test(asked, bit, test, texts <= MOST_TEXTS)
            elif hasattr(test, "of_int"):
                self._compile_range(asked, bit, test.of_int)
        self._compile_automata(asked, field, first, shift)
        for kind in (TEXT, INT, DOUBLE, BYTES):  # each test has one place where its answer comes from
            bit = asked.memoised[<int> kind]
            if kind == TEXT:
                bit |= asked.matched
                for at in range(asked.texts_used):
                    bit |= asked.texts[at].bit
            elif kind == BYTES:
                for at in range(asked.raw_used):
                    bit |= asked.raw[at].bit
            else:
                for at in range(asked.numbers_used):
                    if kind == INT or not asked.numbers[at].is_for_ints:
                        bit |= asked.numbers[at].bit
            asked.fixed[<int> kind].trues &= ~bit
            asked.fixed[<int> kind].errors &= ~bit
        return 0

    cdef int _compile_test(self, Asked *asked, uint64_t bit, test, bint few_texts) except -1:
        """Let C answer a comparison for the types for which it can."""
        cdef TextTest *text
        cdef NumberTest *number
        constant, operator = test.constant, OPERATORS[test.operator]
        kinds = {TEXT, INT, DOUBLE, BYTES}
        if is_plain_text(constant) and few_texts and operator in (EQUAL, UNEQUAL):
            text = asked.texts + asked.texts_used
            asked.texts_used += 1
            self._point(text, bit, constant.encode(), operator)
        elif type(constant) is str:
            kinds.remove(TEXT)
        elif type(constant) is bytes:
            text = asked.raw + asked.raw_used
            asked.raw_used += 1
            self._point(text, bit, constant, operator)
        elif is_number(constant):
            number = asked.numbers + asked.numbers_used
            asked.numbers_used += 1
            number.bit, number.operator, number.real = bit, operator, constant
            number.is_whole = type(constant) is int
            if number.is_whole:
                set_bounds(number, operator, constant)
        elif type(constant) is int:
            kinds -= {INT, DOUBLE}
        elif constant is None:
            kinds.remove(BYTES)  # bytes without any are nil
        for kind in kinds:
            asked.memoised[<int> kind] &= ~bit
        return 0

    cdef int _compile_range(self, Asked *asked, uint64_t bit, tuple bounds) except -1:
        """Let C answer whether an int is within bounds. The answers for texts, floats and bytes are fixed."""
        cdef NumberTest *number = asked.numbers + asked.numbers_used
        low, high = max(bounds[0], INT64_MIN), min(bounds[1], INT64_MAX)
        asked.numbers_used += 1
        number.bit, number.is_whole, number.is_for_ints, number.is_outside = bit, True, True, False
        number.least, number.most = (low, high) if low <= high else (1, 0)
        for kind in (TEXT, INT, DOUBLE, BYTES):
            asked.memoised[<int> kind] &= ~bit
        return 0

    cdef int _compile_automata(self, Asked *asked, uint32_t field, uint32_t first, uint32_t shift) except -1:
        cdef list made = self.program.automata(field, first, MOST_TESTS)
        cdef Automaton *one
        cdef uint64_t bits
        cdef uint32_t at, number, place
        asked.automata = <Automaton *> calloc(len(made) or 1, sizeof(Automaton))
        if asked.automata == NULL:
            raise MemoryError
        for number, each in enumerate(made):
            one = asked.automata + number
            table = each.table.tobytes()
            self.constants += (each.classes, table)
            one.classes = <const uint8_t *> PyBytes_AS_STRING(each.classes)
            one.table = <const uint16_t *> PyBytes_AS_STRING(table)
            one.shift, one.start, one.finals = each.shift, each.start, each.finals
            one.found = <uint64_t *> calloc(len(each.found), sizeof(uint64_t))
            if one.found == NULL:
                raise MemoryError
            asked.automata_used += 1
            for place, bits in enumerate(each.found):
                for at, test in enumerate(each.tests):
                    one.found[place] |= (bits >> at & 1) << <uint32_t> test << shift
            for test in each.tests:
                asked.matched |= <uint64_t> 1 << <uint32_t> test << shift
                if self.program.leaves[self.program.tests_of_field[field][first + test]].test.of_text.is_negated:
                    asked.flipped |= <uint64_t> 1 << <uint32_t> test << shift
        asked.of_empty.trues &= asked.matched
        asked.of_empty.errors &= asked.matched
        asked.memoised[<int> TEXT] &= ~asked.matched
        return 0

    cdef int _point(self, TextTest *test, uint64_t bit, bytes constant, Operator operator) except -1:
        self.constants.append(constant)
        test.bit, test.operator = bit, operator
        test.at, test.size = <const uint8_t *> PyBytes_AS_STRING(constant), PyBytes_GET_SIZE(constant)
        return 0

    cdef int answer(self, Scan *s, uint32_t hit, uint32_t first, uint64_t *answers) except -1:
        """Set the answers for the values of a span or a holder, of which `hit` is the first. `first` is the number of the first
        field of the program. `answers` has the words of true, then those of error."""
        cdef Asked *asked
        cdef Hit *at
        cdef Answers found
        cdef uint32_t number, words = self.words
        while hit != NONE:
            at = hits(s) + hit
            hit = at.next
            number = at.ask - first
            if number >= self.used:  # it is of another program, or a trace state
                continue
            asked = self.asked + number
            if not plain_answers(asked, at, &found):
                self._remembered(at, number, &found)
            answers[asked.word] = answers[asked.word] & ~asked.mask | found.trues
            answers[words + asked.word] = answers[words + asked.word] & ~asked.mask | found.errors
        return 0

    cdef int _remembered(self, Hit *hit, uint32_t number, Answers *found) except -1:
        """Add the answers that only Python can give, from memory if possible."""
        cdef Entry *entry = NULL if self.asked[number].is_distinct else find(&self.memo, self._hash(hit, number))
        if entry == NULL:
            return self._ask_python(hit, number, found)
        found.trues |= entry.trues
        found.errors |= entry.errors
        return 0

    cdef uint64_t _hash(self, Hit *hit, uint32_t number) noexcept:
        cdef uint64_t kind = <uint64_t> number << 8 | hit.type
        if hit.type == INT or hit.type == DOUBLE:
            return hash_of(&self.memo, kind, <const uint8_t *> &hit.bits, 8)
        return hash_of(&self.memo, kind, hit.at, hit.bits)

    cdef int _ask_python(self, Hit *hit, uint32_t number, Answers *found) except -1:
        """Add the answers that only Python can give, and remember them."""
        cdef Asked *asked = self.asked + number
        cdef uint32_t field, first, shift = 0
        cdef uint64_t wanted
        cdef Answers more
        field, first = self.places[number]
        while not asked.mask >> shift & 1:
            shift += 1
        answers = self.program.answers(field, value_of(hit), first, MOST_TESTS)  # only these: a list may have a thousand
        wanted = asked.memoised[hit.type] | (asked.matched if hit.type == TEXT else 0)
        more = wanted_of(answers, wanted >> shift)
        more.trues <<= shift
        more.errors <<= shift
        if not asked.is_distinct:
            put(&self.memo, self._hash(hit, number), more.trues, more.errors)
        found.trues |= more.trues
        found.errors |= more.errors
        return 0

    cdef uint64_t weigh(self, Hit *hit) except? 0:
        """The marks of a trace state from bit 56 on, and its randomness below. Source: `tracestate.weight_of`."""
        cdef uint64_t hash = hash_of(&self.memo, OF_TRACE_STATES, hit.at, hit.bits), found
        cdef Entry *entry = find(&self.memo, hash)
        if entry != NULL:
            return entry.trues
        marks, rv = weight_of(PyBytes_FromStringAndSize(<const char *> hit.at, hit.bits))
        found = <uint64_t> marks << RV_BITS | (<uint64_t> rv if marks & 1 else 0)
        put(&self.memo, hash, found, 0)
        return found

    cdef uint64_t held_bytes(self):
        """Memory in bytes that grows with the values seen."""
        return memo_bytes(&self.memo)


def _default(field):
    """The value of a field that is absent on the wire. Only an attribute is missing then."""
    if field.name == "attributes":
        return None
    if field.name in ("trace_id", "span_id"):
        return b""
    if field.name == "parent_span_id":
        return bytes(8)
    return "" if field.name in ("name", "trace_state", "status.message", "schema_url", "version") else 0
