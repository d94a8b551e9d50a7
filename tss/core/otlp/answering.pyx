# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Answers a program for the spans of a fragment, after its record was read: the fragment's facts.

The layout of the facts and the operations of a formula are those of `conditions/program.py`, where the same is written in Python.
First the leaves of a span are answered (`leaves`), then the formulas. The answers of all formulas that need no Python are
remembered by the answers of the leaves: spans of one kind give the same. Everything here holds the GIL.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from tss.core.conditions.folding cimport SHARED, shared_facts
from tss.core.otlp.leaves cimport Leaves
from tss.core.otlp.found cimport (
    EVENT_INDEX, NONE, RESOURCE, ROOT, SCOPE, TRACE_STATE, Hit, Kept, Run, Scan, Span, Trace, hits, holder_of, holders, lasting,
    runs, spans,
)
from tss.core.otlp.protobuf cimport LENGTH, MAX_DEPTH, Failure, Pos, content, head, skip, write_fixed64
from tss.core.otlp.values cimport OUT_OF_MEMORY, READ, Outcome, keep_plain, look_up

from tss.core.conditions.formula import Fold, Place
from tss.core.otlp.spanview import general

cdef enum:  # the operations of `program.py`
    CONST
    LEAF
    GENERAL
    NOT
    UNLESS_TRUE
    UNLESS_FALSE

cdef enum:  # the truths of `formula.py`
    FALSE
    TRUE
    ERROR

cdef enum:  # the parts of facts
    PART_SPANS = 1
    PART_ROOT = 2
    PART_OT = 4
    PART_WINDOWS = 8

cdef enum:
    ASKS_A_WORD = 32
    KNOWN = 256  # formulas' answers that are remembered, a power of two
    FEW_WORDS = 32  # up to so many words of answers are on the stack
    FEW_BYTES = 512  # up to so many bytes of facts are on the stack
    RV_BITS = 56
    SAW_RV = 1
    MS = 1000000

cdef uint64_t TRUES = 0x5555555555555555u


cdef inline int of_ask(const uint64_t *found, uint32_t ask) noexcept nogil:
    return found[ask // ASKS_A_WORD] >> 2 * (ask % ASKS_A_WORD) & 3


cdef inline void add(uint64_t *found, uint32_t ask, int truth) noexcept nogil:
    found[ask // ASKS_A_WORD] |= <uint64_t> truth << 2 * (ask % ASKS_A_WORD)


cdef inline void fold(uint64_t *found, uint64_t more, uint64_t firsts) noexcept nogil:
    """Fold a word of answers into those found before. `firsts` has both bits of each ask whose first answer counts."""
    cdef uint64_t both = found[0] | more, trues = both & TRUES, settled = (found[0] | found[0] >> 1) & TRUES
    cdef uint64_t any = trues | both & ~TRUES & ~(trues << 1), first = found[0] | more & ~(settled * 3)
    found[0] = any & ~firsts | first & firsts


cdef inline uint8_t *write64(uint8_t *out, uint64_t value) noexcept nogil:
    write_fixed64(out, value)
    return out + 8


cdef inline void copy(uint64_t *out, const uint64_t *words, uint32_t count) noexcept nogil:
    cdef uint32_t number
    for number in range(count):
        out[number] = words[number]


cdef uint8_t *write_answers(uint8_t *out, const uint64_t *found, uint32_t asks) noexcept nogil:
    cdef uint32_t number
    for number in range((asks + 3) // 4):
        out[number] = found[number // 8] >> 8 * (number % 8) & 0xFF
    return out + (asks + 3) // 4


cdef class Parts:
    cdef int make(self) except -1:
        """Make the parts that are not those of the span looked at before."""
        cdef Span *span = spans(self.s) + self.span
        cdef uint32_t scope = span.scope, resource = holder_of(self.s, self.span, RESOURCE)
        cdef Pos start, end = NULL
        cdef Failure failure
        cdef uint64_t tag = 0
        if self.of_span != self.span:
            start = head(&failure, self.s.base + span.start, self.s.base + span.stop, &tag)
            start = content(&failure, start, self.s.base + span.stop, &end)
            self.body = PyBytes_FromStringAndSize(<const char *> start, end - start)
            self.of_span = self.span
        if self.of_resource != resource:
            self.resource = shared_fields(self.s, resource)
            self.of_resource = resource
        if self.of_scope != scope:
            self.scope = shared_fields(self.s, scope)
            self.of_scope = scope
        return 0


cdef bytes shared_fields(Scan *s, uint32_t holder):
    """A ResourceSpans without its ScopeSpans, or a ScopeSpans without its spans."""
    cdef uint32_t number = holders(s)[holder].runs.first
    cdef Run *run
    cdef list found = []
    while number != NONE:
        run = runs(s) + number
        found.append(PyBytes_FromStringAndSize(<const char *> s.base + run.start, run.stop - run.start))
        number = run.next
    return b"".join(found)


cdef class Answering:
    """A program, compiled for the scanner.

    `first` is the number of its first field among those of all programs that the scanner asks. It weighs trace states if
    `weighs` says so. The memory of answers may take `memo_bytes`.
    """

    def __cinit__(self, program, uint32_t first, bint weighs, uint64_t memo_bytes):
        cdef Py_ssize_t number
        self.program, self.first, self.weighs = program, first, weighs
        self.leaves = Leaves(program, memo_bytes)
        self.fields = [program.fields[field] for field, _ in self.leaves.places]
        self.asks_any = bool(program.asks)
        self.has_generals = bool(program.generals)
        self.has_events = program.has_events
        self.spans_used, self.roots_used = len(program.spans), len(program.roots)
        self.windows_used = len(program.windows)
        self.words = (self.spans_used + ASKS_A_WORD - 1) // ASKS_A_WORD or 1
        self.stride = 2 * self.leaves.words + self.words
        self.shared = [b""] * SHARED
        self._allocate()
        self._compile()
        for number, window in enumerate(program.windows):
            self.windows[number].threshold_ms, self.windows[number].upper_ms = window.threshold_ms, window.upper_ms
        for number, ask in enumerate(program.spans):
            if ask.fold is Fold.FIRST:
                add(self.firsts, number, 3)

    cdef int _allocate(self) except -1:
        cdef uint32_t codes = 0
        for code in (*self.program.span_codes, *self.program.event_codes, *self.program.root_codes):
            codes += len(code or ())
        self.steps = <Step *> calloc(codes or 1, sizeof(Step))
        self.own = <Formula *> calloc(self.spans_used or 1, sizeof(Formula))
        self.of_events = <Formula *> calloc(self.spans_used or 1, sizeof(Formula))
        self.of_roots = <Formula *> calloc(self.roots_used or 1, sizeof(Formula))
        self.windows = <Window *> calloc(self.windows_used or 1, sizeof(Window))
        self.firsts = <uint64_t *> calloc(self.words, sizeof(uint64_t))
        self.known = <uint64_t *> malloc(KNOWN * self.stride * sizeof(uint64_t))
        if (
            self.steps == NULL or self.own == NULL or self.of_events == NULL or self.of_roots == NULL
            or self.windows == NULL or self.firsts == NULL or self.known == NULL
        ):
            raise MemoryError
        # No leaf is true and an error at once, so these are not found.
        memset(self.known, 0xFF, KNOWN * self.stride * sizeof(uint64_t))
        return 0

    def __dealloc__(self):
        free(self.steps)
        free(self.own)
        free(self.of_events)
        free(self.of_roots)
        free(self.windows)
        free(self.firsts)
        free(self.known)

    cdef int _compile(self) except -1:
        cdef uint32_t used = 0, number
        for number in range(self.spans_used):
            of_events = self.program.spans[number].each is Place.EVENT
            used = self._copy(self.program.span_codes[number], used, (self.of_events if of_events else self.own) + number)
            if not of_events:
                used = self._copy(self.program.event_codes[number] or (), used, self.of_events + number)
        for number in range(self.roots_used):
            used = self._copy(self.program.root_codes[number], used, self.of_roots + number)
        return 0

    cdef uint32_t _copy(self, tuple code, uint32_t used, Formula *formula) except? 0:
        """Copy a formula's code to the steps from `used` on. Returns where it ends."""
        cdef Step *step
        cdef uint32_t bit
        formula.start, formula.stop = used, used + len(code)
        for operation, argument in code:
            step = self.steps + used
            used += 1
            step.operation = operation
            if operation == LEAF:
                bit = self.leaves.bits[argument]
                step.bit, step.argument = bit % 64, bit // 64
            else:
                step.argument = argument + (formula.start if operation in (UNLESS_TRUE, UNLESS_FALSE) else 0)
            formula.is_general |= operation == GENERAL
        return used

    cdef uint64_t held_bytes(self):
        """Memory in bytes that grows with the values seen."""
        return self.leaves.held_bytes()

    # -- one span

    cdef int _truth_of(self, Formula *formula, const uint64_t *answers, Parts parts) except -1:
        """The answer of a formula. `parts` may be None if it is not general."""
        cdef uint32_t at = formula.start, errors = self.leaves.words
        cdef int found = FALSE
        cdef Step *step
        while at < formula.stop:
            step = self.steps + at
            at += 1
            if step.operation == LEAF:
                found = answers[step.argument] >> step.bit & 1 | (answers[errors + step.argument] >> step.bit & 1) << 1
            elif step.operation == UNLESS_FALSE:
                if found != FALSE:
                    at = step.argument
            elif step.operation == UNLESS_TRUE:
                if found != TRUE:
                    at = step.argument
            elif step.operation == NOT:
                if found != ERROR:
                    found = TRUE - found
            elif step.operation == GENERAL:
                parts.make()
                found = general(
                    self.program, step.argument, parts.body, parts.resource, parts.scope, parts.event, parts.index
                )
            else:
                found = step.argument
        return found

    cdef const uint64_t *_plain_answers(self, const uint64_t *answers) except NULL:
        """The answers of all formulas for spans that are not general. They are valid until the next call."""
        cdef uint32_t number, size = 2 * self.leaves.words
        cdef uint64_t hash = 0, differing = 0
        cdef uint64_t *known
        for number in range(size):
            hash = (hash ^ answers[number]) * 0x9E3779B97F4A7C15u
            hash ^= hash >> 32
        known = self.known + (hash & (KNOWN - 1)) * self.stride
        for number in range(size):
            differing |= known[number] ^ answers[number]
        if differing:
            copy(known, answers, size)
            memset(known + size, 0, self.words * sizeof(uint64_t))
            for number in range(self.spans_used):
                if not self.own[number].is_general:
                    add(known + size, number, self._truth_of(self.own + number, answers, None))
        return known + size

    cdef int _look(self, Scan *s, uint32_t number, uint64_t *answers) except -1:
        """The answers of all leaves for a span's resource and scope, if only these had fields."""
        copy(answers, self.leaves.missing, 2 * self.leaves.words)
        self.leaves.answer(s, holders(s)[holder_of(s, number, RESOURCE)].hits.first, self.first, answers)
        self.leaves.answer(s, holders(s)[holder_of(s, number, SCOPE)].hits.first, self.first, answers)
        return 0

    cdef int _ask_generals(self, uint64_t *found, const uint64_t *answers, Parts parts) except -1:
        """Fold in the answers of the general formulas for a span."""
        cdef uint32_t number
        cdef uint64_t more
        cdef int before
        parts.event, parts.index = None, 0
        for number in range(self.spans_used):
            if self.own[number].is_general and not self._is_settled(found, number):
                self._fold_one(found, number, self._truth_of(self.own + number, answers, parts))
        return 0

    cdef bint _is_settled(self, const uint64_t *found, uint32_t ask) noexcept:
        cdef int before = of_ask(found, ask)
        return before == TRUE or before == ERROR and of_ask(self.firsts, ask)

    cdef void _fold_one(self, uint64_t *found, uint32_t ask, int truth) noexcept:
        cdef uint32_t word = ask // ASKS_A_WORD
        fold(found + word, <uint64_t> truth << 2 * (ask % ASKS_A_WORD), self.firsts[word])

    cdef int _ask_events(self, Scan *s, uint32_t number, uint64_t *found, uint64_t *answers, Parts parts) except -1:
        """Fold in the answers for the events of a span, whose own leaves have these answers. There is room for as many
        answers behind them."""
        cdef Span *span = spans(s) + number
        cdef Pos at = s.base + span.start, stop = s.base + span.stop, body, end = NULL
        cdef uint64_t tag = 0
        cdef Failure failure
        cdef Kept kept
        cdef Hit hit
        cdef uint32_t before = s.hits.used, index = 0
        cdef Outcome outcome
        cdef uint64_t *own = answers + 2 * self.leaves.words
        at = content(&failure, head(&failure, at, stop, &tag), stop, &end)
        while at != NULL and at < stop:
            at = head(&failure, at, stop, &tag)
            if at == NULL or tag != (11 << 3 | LENGTH):
                at = NULL if at == NULL else skip(&failure, at, stop, tag, MAX_DEPTH - 3)
                continue
            body = content(&failure, at, stop, &end)
            at = end
            if body == NULL:
                break
            kept.first = kept.last = NONE
            kept.seen = 0
            memset(&hit, 0, sizeof(Hit))
            hit.bits = index
            outcome = look_up(s, &s.wanted.events, body, end, &kept)
            if outcome == OUT_OF_MEMORY or not keep_plain(s, &s.wanted.events, EVENT_INDEX, &hit, &kept):
                raise MemoryError
            if outcome == READ:
                copy(own, answers, 2 * self.leaves.words)
                self.leaves.answer(s, kept.first, self.first, own)
                if parts is not None:
                    parts.event, parts.index = PyBytes_FromStringAndSize(<const char *> body, end - body), index
                self._ask_event(found, own, parts)
            s.hits.used = before
            index += 1
        return 0

    cdef int _ask_event(self, uint64_t *found, const uint64_t *answers, Parts parts) except -1:
        cdef uint32_t number
        for number in range(self.spans_used):
            if self.of_events[number].stop > self.of_events[number].start and not self._is_settled(found, number):
                self._fold_one(found, number, self._truth_of(self.of_events + number, answers, parts))
        return 0

    cdef int _weigh(self, Scan *s, uint32_t number, uint64_t *weight) except -1:
        """Fold in the trace state of a span. `weight` is as in `Leaves.weigh`."""
        cdef uint32_t hit = spans(s)[number].hits
        cdef uint64_t found, marks
        while hit != NONE:
            if hits(s)[hit].ask == TRACE_STATE:
                found = self.leaves.weigh(hits(s) + hit)
                marks = (weight[0] | found) >> RV_BITS << RV_BITS
                if weight[0] >> RV_BITS & SAW_RV:
                    found = weight[0]
                weight[0] = marks | found << 8 >> 8
            hit = hits(s)[hit].next
        return 0

    # -- all spans of a fragment

    cdef bytes facts(self, Scan *s, Trace *trace):
        """The facts of a fragment."""
        cdef uint64_t[FEW_WORDS] few
        cdef uint32_t leaves = 2 * self.leaves.words, number
        cdef uint32_t room = self.words + 3 * leaves + (self.roots_used + ASKS_A_WORD - 1) // ASKS_A_WORD
        cdef uint64_t *found = few
        if room > FEW_WORDS:
            found = <uint64_t *> malloc(room * sizeof(uint64_t))
            if found == NULL:
                raise MemoryError
        memset(found, 0, room * sizeof(uint64_t))
        try:
            return self._facts(s, trace, found, found + self.words, found + self.words + leaves)
        finally:
            if found != few:
                free(found)

    cdef bytes _facts(self, Scan *s, Trace *trace, uint64_t *found, uint64_t *shared, uint64_t *answers):
        """`found` has room for the answers of all OfSpans, `shared` for those of the leaves, and `answers` for two times
        those and the answers of all OfRoot."""
        cdef uint32_t at = trace.first, scope = NONE, size = 2 * self.leaves.words, root = NONE, number
        cdef uint64_t *of_root = answers + 2 * size
        cdef uint64_t weight = 0
        cdef const uint64_t *plain
        cdef Parts parts = None
        if self.has_generals:
            parts = Parts()
            parts.s, parts.of_span, parts.of_resource, parts.of_scope = s, NONE, NONE, NONE
        while at != NONE:
            if self.spans_used:
                if spans(s)[at].scope != scope:
                    scope = spans(s)[at].scope
                    self._look(s, at, shared)
                copy(answers, shared, size)
                self.leaves.answer(s, spans(s)[at].hits, self.first, answers)
                plain = self._plain_answers(answers)
                for number in range(self.words):
                    fold(found + number, plain[number], self.firsts[number])
                if parts is not None:
                    parts.span = at
                    self._ask_generals(found, answers, parts)
                if self.has_events:
                    self._ask_events(s, at, found, answers, parts)
            if s.has_state and self.weighs:
                self._weigh(s, at, &weight)
            if spans(s)[at].parent == ROOT and (root == NONE or is_before(spans(s) + at, spans(s) + root)):
                root = at
            at = spans(s)[at].next
        if self.roots_used and root != NONE:
            self._look(s, root, answers)
            self.leaves.answer(s, spans(s)[root].hits, self.first, answers)
            if parts is not None:
                parts.span, parts.event, parts.index = root, None, 0
            for number in range(self.roots_used):
                add(of_root, number, self._truth_of(self.of_roots + number, answers, parts))
        return self._written(s, trace, found, weight, root, of_root)

    # -- writing

    cdef bytes _written(
        self, Scan *s, Trace *trace, const uint64_t *found, uint64_t weight, uint32_t root, const uint64_t *of_root
    ):
        cdef uint8_t[FEW_BYTES] few
        cdef uint8_t *start = few
        cdef uint8_t *out
        cdef uint32_t number
        cdef uint64_t any = 0
        cdef uint64_t room = 64 + self.spans_used // 4 + self.roots_used // 4 + self.windows_used // 8
        if self.windows_used:
            room += 16 * <uint64_t> trace.spans
        if room > FEW_BYTES:
            start = <uint8_t *> malloc(room)
            if start == NULL:
                raise MemoryError
        start[0], out = 0, start + 1
        for number in range(self.words):
            any |= found[number]
        if any:
            start[0] |= PART_SPANS
            out = write_answers(out, found, self.spans_used)
        if self.roots_used and root != NONE:
            start[0] |= PART_ROOT
            out = write64(out, spans(s)[root].start_ns)
            memcpy(out, &spans(s)[root].span_id, 8)
            out = write_answers(out + 8, of_root, self.roots_used)
        if weight >> RV_BITS:
            start[0] |= PART_OT
            out[0], out = weight >> RV_BITS, out + 1
            if weight >> RV_BITS & SAW_RV:
                for number in range(7):
                    out[number] = weight >> 8 * (6 - number) & 0xFF
                out += 7
        if self.windows_used:
            start[0] |= PART_WINDOWS
            out = self._write_windows(s, trace, out)
        try:
            return shared_facts(self.shared, start, out - start) if start[0] else b""
        finally:
            if start != few:
                free(start)

    cdef uint8_t *_write_windows(self, Scan *s, Trace *trace, uint8_t *out) noexcept:
        """Write the part of the windows. Returns where it ends."""
        cdef uint64_t low = 0, high = 0, low_before, high_before
        cdef uint32_t at = trace.first, count = 0, number, size = (self.windows_used + 7) // 8
        cdef uint8_t *bits = out + 16
        cdef uint8_t *stair = bits + size + 4
        cdef int64_t duration_ms
        cdef Window *window
        memset(bits, 0, size)
        while at != NONE:
            low_before, high_before = low, high
            if low == 0 or spans(s)[at].start_ns < low:
                low = spans(s)[at].start_ns
            if high == 0 or spans(s)[at].end_ns > high:
                high = spans(s)[at].end_ns
            if count == 0 or low != low_before or high != high_before:
                count += 1
                stair = write64(write64(stair, spans(s)[at].start_ns), spans(s)[at].end_ns)
                duration_ms = lasting(low, high) / MS
                for number in range(self.windows_used):
                    window = self.windows + number
                    if window.threshold_ms < duration_ms and (not window.upper_ms or duration_ms <= window.upper_ms):
                        bits[number // 8] |= 1 << number % 8
            at = spans(s)[at].next
        write64(write64(out, low), high)
        for number in range(4):
            bits[size + number] = count >> 8 * number & 0xFF
        return stair


cdef inline bint is_before(Span *one, Span *other) noexcept nogil:
    if one.start_ns != other.start_ns:
        return one.start_ns < other.start_ns
    return memcmp(&one.span_id, &other.span_id, 8) < 0
