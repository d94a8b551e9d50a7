"""A program answers what is asked of a trace's spans. The answers are the trace's *facts*: bytes that are written while its
records are scanned, and folded in the order of the records.

The facts of a fragment, and of a trace (all numbers little-endian unless said):

- `b""`: no part below is there. Else a byte that says which parts follow, in this order: SPANS, ROOT, OT, WINDOWS.
- SPANS, if any `OfSpans` has an answer other than FALSE: 2 bits for each, from the low bits of each byte on.
- ROOT, if any `OfRoot` is asked and a root was seen: its start (u64), its id (8 bytes as on the wire), 2 bits for each answer.
- OT, if a span has OpenTelemetry's member in its trace state: the marks (see `tracestate`), and with SAW_RV the first
  randomness in 7 bytes, big-endian.
- WINDOWS, if any `Window` is asked: the running minimum of the starts and maximum of the ends (u64 each), a bit for each
  answer, the number of *stairs* (u32), and the start and end (u64 each) of each. Stairs are the spans of a fragment that
  moved its own minimum or maximum, and its first span. The facts of a trace have none.

Only bits, minima and maxima could be folded in any order. The first randomness, `Fold.FIRST` and windows depend on the order.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any

import attrs

from tss.core.conditions import fields, formula
from tss.core.conditions.automaton import Automaton, Maker
from tss.core.conditions.formula import (
    ERROR,
    FALSE,
    TRUE,
    Ask,
    Field,
    Fold,
    Formula,
    Found,
    General,
    Leaf,
    OfRoot,
    OfSpans,
    Place,
    SpanView,
    Truth,
    Window,
)
from tss.core.tracestate import NO_RV, SAW_RV

try:
    from tss.core.conditions.folding import Folder
except ImportError:  # there was no C compiler when this was installed
    Folder = None  # type: ignore[assignment, misc]

VERSION = 1
"""Of the facts' layout. It is a part of the fingerprint, so that facts of another layout are never read."""

SPANS, ROOT, OT, WINDOWS = 1, 2, 4, 8  # the parts, in the first byte
_KIND_SPANS, _KIND_ROOT, _KIND_WINDOW = 0, 1, 2
_NOTHING = b""
_SHARED_BYTES = 16  # facts up to this size are shared: most traces have the same few
_SHARED = 4096  # at a time

CONST, LEAF, GENERAL, NOT, UNLESS_TRUE, UNLESS_FALSE = range(6)
"""Operations on one answer. UNLESS_TRUE and UNLESS_FALSE jump to the place in their argument if it is another one."""

Code = tuple[tuple[int, int], ...]
"""A formula as operations and their arguments: a truth, the number of a leaf or of a general condition, or a place."""

_TIMES = struct.Struct("<QQ")


@attrs.frozen
class Root:
    """A root that was seen: its start time in ns, its span id in 8 bytes, and its answers."""

    start_ns: int
    span_id: bytes
    answers: Sequence[Truth]


class Program:
    """What is asked of traces. It is made once, and never changes.

    Raises ValueError if a formula names a field that the scanner does not know, or a field of an event outside of an event.
    """

    def __init__(self, asks: Sequence[Ask]) -> None:
        by_text = {ask.told: ask for ask in asks}
        self.asks: tuple[Ask, ...] = tuple(by_text.values())
        told = json.dumps([VERSION, *by_text], separators=(",", ":"))
        self.fingerprint = sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self.spans = tuple(ask for ask in self.asks if isinstance(ask, OfSpans))
        self.roots = tuple(ask for ask in self.asks if isinstance(ask, OfRoot))
        self.windows = tuple(ask for ask in self.asks if isinstance(ask, Window))
        self.asked = frozenset(by_text)
        self._slots = {text: slot for slot, text in enumerate(by_text)}
        self._kinds = bytes([_kind(ask) for ask in self.asks])
        self._places = [self._kinds[:slot].count(kind) for slot, kind in enumerate(self._kinds)]
        compiler = _Compiler()
        self.span_codes = tuple(compiler.code(ask.formula, ask.each) for ask in self.spans)
        self.event_codes = tuple(
            None if ask.events is None else compiler.code(ask.events, Place.EVENT) for ask in self.spans
        )
        self.root_codes = tuple(compiler.code(ask.formula, Place.SPAN) for ask in self.roots)
        self.fields: tuple[Field, ...] = tuple(compiler.fields)
        self.leaves: tuple[Leaf, ...] = tuple(compiler.leaves.values())
        self.generals: tuple[General, ...] = tuple(compiler.generals.values())
        self.tests_of_field = tuple(
            tuple(number for number, leaf in enumerate(self.leaves) if leaf.field == field) for field in self.fields
        )
        # By leaf, the answer for an attribute that is there without a value.
        self.no_value: tuple[Truth, ...] = tuple(
            getattr(leaf.test, "of_no_value", self._tested(leaf, None)) for leaf in self.leaves
        )
        self._tests = [[self.leaves[number].test for number in tests] for tests in self.tests_of_field]
        self.has_events = any(ask.each is Place.EVENT or ask.events is not None for ask in self.spans)
        # How many bytes the parts take.
        self._span_bytes = (len(self.spans) + 3) // 4
        self._root_bytes = (len(self.roots) + 3) // 4 if self.roots else 0
        self._window_bytes = (len(self.windows) + 7) // 8
        self._firsts = _packed([3 if ask.fold is Fold.FIRST else 0 for ask in self.spans])
        self._bounds = [(window.threshold_ms, window.upper_ms) for window in self.windows]
        self._rootless = [
            run(code, lambda number: self._tested(self.leaves[number], None), self._of_missing)
            for code in self.root_codes
        ]
        self._shared: dict[bytes, bytes] = {}
        self._maker = Maker()
        self._automata: dict[tuple[int, int, int], list[Automaton]] = {}
        self._translations: dict[tuple[str, bytes], bytes] = {}
        self._folder = (
            None
            if Folder is None
            else Folder(self._span_bytes, self._root_bytes, self._window_bytes, self._firsts, self._bounds)
        )

    def __repr__(self) -> str:
        return f"<Program {self.fingerprint} of {len(self.asks)} asks>"

    def slot(self, ask: Ask) -> int:
        """The place of an ask. Raises KeyError if it is not asked."""
        return self._slots[ask.told]

    # -- reading facts

    def answer(self, facts: bytes, slot: int) -> Truth:
        """The answer to the ask in this place: FALSE, TRUE or ERROR."""
        kind, place = self._kinds[slot], self._places[slot]
        if kind == _KIND_SPANS:
            if not facts or not facts[0] & SPANS:
                return FALSE
            return facts[1 + (place >> 2)] >> ((place & 3) * 2) & 3
        if kind == _KIND_ROOT:
            if not facts or not facts[0] & ROOT:
                return self._rootless[place]
            return facts[self.after_spans(facts) + 16 + (place >> 2)] >> ((place & 3) * 2) & 3
        if not facts or not facts[0] & WINDOWS:
            return FALSE
        return facts[self.after_ot(facts) + 16 + (place >> 3)] >> (place & 7) & 1

    def randomness(self, facts: bytes) -> int:
        """The first randomness that a span's trace state gives, in 56 bits; -1 if none does."""
        if not facts or not facts[0] & OT:
            return NO_RV
        at = self.after_root(facts)
        if not facts[at] & SAW_RV:
            return NO_RV
        value = 0
        for place in range(at + 1, at + 8):
            value = value << 8 | facts[place]
        return value

    def marks(self, facts: bytes) -> int:
        """Which of `tracestate`'s SAW_RV, SAW_TH and SAW_OT apply to any span."""
        if not facts or not facts[0] & OT:
            return 0
        return facts[self.after_root(facts)]

    def reads(self, facts: bytes) -> bool:
        """Whether these bytes have the form of this program's facts. Stored bytes are checked before they are used."""
        if not facts:
            return True
        head = facts[0]
        if head == 0 or head > SPANS | ROOT | OT | WINDOWS:
            return False
        at = self.after_root(facts)
        if head & OT:
            if at >= len(facts) or not 0 < facts[at] < 8:
                return False
            at = self.after_ot(facts)
        if head & WINDOWS:
            if not self.windows or len(facts) < at + 20 + self._window_bytes:
                return False
            at += 16 + self._window_bytes
            at += 4 + 16 * int.from_bytes(facts[at : at + 4], "little")
        return at == len(facts) and bool((self.spans or not head & SPANS) and (self.roots or not head & ROOT))

    def after_spans(self, facts: bytes) -> int:
        """Where the part ROOT begins, or would begin."""
        return 1 + self._span_bytes if facts[0] & SPANS else 1

    def after_root(self, facts: bytes) -> int:
        """Where the part OT begins, or would begin."""
        at = self.after_spans(facts)
        return at + 16 + self._root_bytes if facts[0] & ROOT else at

    def after_ot(self, facts: bytes) -> int:
        """Where the part WINDOWS begins, or would begin."""
        at = self.after_root(facts)
        if not facts[0] & OT:
            return at
        return at + 8 if facts[at] & SAW_RV else at + 1

    # -- facts of another program

    def covers(self, other: Program) -> bool:
        """Whether this program asks all that the other one asks."""
        return other is self or other.asked <= self.asked

    def translated(self, facts: bytes, source: Program) -> bytes:
        """Facts of another program, as facts of this one. ``source`` covers this program."""
        if not facts or source is self or source.fingerprint == self.fingerprint:
            return facts
        if len(facts) > _SHARED_BYTES:
            return self._translated(facts, source)
        known = self._translations.get((source.fingerprint, facts))
        if known is None:
            if len(self._translations) >= _SHARED:
                self._translations.clear()
            known = self._translations[source.fingerprint, facts] = self.shared(self._translated(facts, source))
        return known

    def _translated(self, facts: bytes, source: Program) -> bytes:
        made, head = bytearray(1), facts[0]
        answers = [source.answer(facts, source.slot(ask)) for ask in self.spans]
        if any(answers):
            made[0] |= SPANS
            made += _packed(answers)
        if head & ROOT and self.roots:
            at = source.after_spans(facts)
            made[0] |= ROOT
            made += facts[at : at + 16] + _packed([source.answer(facts, source.slot(ask)) for ask in self.roots])
        if head & OT:
            made[0] |= OT
            made += facts[source.after_root(facts) : source.after_ot(facts)]
        if head & WINDOWS and self.windows:
            at, bits = source.after_ot(facts), bytearray(self._window_bytes)
            for place, ask in enumerate(self.windows):
                bits[place >> 3] |= source.answer(facts, source.slot(ask)) << (place & 7)
            made[0] |= WINDOWS
            made += facts[at : at + 16] + bits + facts[at + 16 + (len(source.windows) + 7) // 8 :]
        return bytes(made) if made[0] else _NOTHING

    # -- folding

    def fold(self, facts: bytes, further: bytes) -> bytes:
        """The facts of a trace with these facts, to which a fragment with the facts `further` has come."""
        if self._folder is not None:
            return self._folder.fold(facts, further)
        return self.folded(facts, further)

    def folded(self, facts: bytes, further: bytes) -> bytes:
        """The same as `fold`, in Python."""
        if not further:
            return facts
        if not self.windows:
            if not facts:
                return further
            if facts == further:
                return facts
        return self.shared(self._folded(facts or b"\0", further))

    def _folded(self, facts: bytes, further: bytes) -> bytes:
        head, more = facts[0], further[0]
        folded = bytearray(1)
        folded[0] = head | more
        if (head | more) & SPANS:
            self._fold_spans(folded, facts, further)
        if (head | more) & ROOT:
            self._fold_root(folded, facts, further)
        if (head | more) & OT:
            self._fold_ot(folded, facts, further)
        if (head | more) & WINDOWS:
            self._fold_windows(folded, facts, further)
        return bytes(folded) if folded[0] else _NOTHING

    def _fold_spans(self, folded: bytearray, facts: bytes, further: bytes) -> None:
        mine, theirs = facts[0] & SPANS, further[0] & SPANS
        for place in range(self._span_bytes):
            one = facts[1 + place] if mine else 0
            two = further[1 + place] if theirs else 0
            trues = (one | two) & 0x55
            errors = (one | two) & 0xAA & ~(trues << 1)
            first = self._firsts[place]
            settled = (one | one >> 1) & 0x55
            folded.append((trues | errors) & ~first & 0xFF | (one | two & ~(settled * 3)) & first)

    def _fold_root(self, folded: bytearray, facts: bytes, further: bytes) -> None:
        mine, theirs = self.after_spans(facts), self.after_spans(further)
        if not facts[0] & ROOT or (further[0] & ROOT and _is_before(further, theirs, facts, mine)):
            folded += further[theirs : theirs + 16 + self._root_bytes]
        else:
            folded += facts[mine : mine + 16 + self._root_bytes]

    def _fold_ot(self, folded: bytearray, facts: bytes, further: bytes) -> None:
        mine, theirs = self.after_root(facts), self.after_root(further)
        one = facts[mine] if facts[0] & OT else 0
        two = further[theirs] if further[0] & OT else 0
        folded.append(one | two)
        if one & SAW_RV:
            folded += facts[mine + 1 : mine + 8]
        elif two & SAW_RV:
            folded += further[theirs + 1 : theirs + 8]

    def _fold_windows(self, folded: bytearray, facts: bytes, further: bytes) -> None:
        low = high = 0
        bits = bytearray(self._window_bytes)
        if facts[0] & WINDOWS:
            at = self.after_ot(facts)
            low, high = _u64(facts, at), _u64(facts, at + 8)
            bits[:] = facts[at + 16 : at + 16 + self._window_bytes]
        if further[0] & WINDOWS:
            at = self.after_ot(further) + 16 + self._window_bytes
            stairs = int.from_bytes(further[at : at + 4], "little")
            at += 4
            for place in range(stairs):
                start, end = _u64(further, at + 16 * place), _u64(further, at + 16 * place + 8)
                if low == 0 or start < low:
                    low = start
                if high == 0 or end > high:
                    high = end
                self._look_out(bits, low, high)
        folded += _TIMES.pack(low, high) + bits + b"\0\0\0\0"

    def _look_out(self, bits: bytearray, low: int, high: int) -> None:
        """Set the bit of each window in which the duration is."""
        duration_ms = whole_ms(low, high)
        for place, (threshold, upper) in enumerate(self._bounds):
            if threshold < duration_ms and (upper == 0 or duration_ms <= upper):
                bits[place >> 3] |= 1 << (place & 7)

    def shared(self, facts: bytes) -> bytes:
        """The same bytes; small ones are one object for all traces."""
        if len(facts) > _SHARED_BYTES:
            return facts
        if not facts:
            return _NOTHING
        if len(self._shared) >= _SHARED and facts not in self._shared:
            self._shared.clear()
        return self._shared.setdefault(facts, facts)

    # -- for the scanners

    def answers(self, number: int, value: Found, first: int = 0, most: int | None = None) -> tuple[int, int]:
        """The answers of a field's tests for a value, as two bit masks: the true ones, and those that failed. Bit i is of
        the leaf `tests_of_field[number][first + i]`; of at most ``most`` tests. Never raises."""
        tests = self._tests[number][first : None if most is None else first + most]
        return _masks([safe(test.answer, value) for test in tests])

    def automata(self, number: int, first: int, most: int) -> list[Automaton]:
        """Automata for some of the same tests. They answer for texts of ASCII that are not empty."""
        key = number, first, most
        if key not in self._automata:
            tests = self._tests[number][first : first + most]
            self._automata[key] = self._maker.automata([getattr(test, "of_text", None) for test in tests])
        return self._automata[key]

    def answers_of_no_value(self, number: int, first: int = 0, most: int | None = None) -> tuple[int, int]:
        """The same for an attribute that is there without a value."""
        leaves = self.tests_of_field[number][first : None if most is None else first + most]
        return _masks([self.no_value[leaf] for leaf in leaves])

    def general(self, number: int, view: SpanView) -> Truth:
        """The answer of a general condition for a span. Never raises."""
        return safe(self.generals[number].answer_of, view)

    def make(
        self,
        answers: Sequence[Truth],
        root: Root | None,
        marks: int,
        rv: int,
        times: Iterable[tuple[int, int]],
    ) -> bytes:
        """The facts of a fragment.

        `answers` are those of `spans`. `marks` and `rv` are of the trace states. `times` are the start and the end (ns) of
        each span, in order. The scanner in C writes the same bytes.
        """
        made = bytearray(1)
        if any(answers):
            made[0] |= SPANS
            made += _packed(answers)
        if root is not None and self.roots:
            made[0] |= ROOT
            made += root.start_ns.to_bytes(8, "little") + root.span_id + _packed(root.answers)
        if marks:
            made[0] |= OT
            made.append(marks)
            if marks & SAW_RV:
                made += rv.to_bytes(7, "big")
        if self.windows:
            made[0] |= WINDOWS
            made += self._windows(times)
        return self.shared(bytes(made)) if made[0] else _NOTHING

    def _windows(self, times: Iterable[tuple[int, int]]) -> bytes:
        low = high = 0
        bits, stairs = bytearray(self._window_bytes), list[bytes]()
        for start, end in times:
            before = low, high
            if low == 0 or start < low:
                low = start
            if high == 0 or end > high:
                high = end
            if not stairs or before != (low, high):
                stairs.append(_TIMES.pack(start, end))
                self._look_out(bits, low, high)
        return b"".join([_TIMES.pack(low, high), bits, struct.pack("<I", len(stairs)), *stairs])

    def _tested(self, leaf: Leaf, value: Found) -> Truth:
        return safe(leaf.test.answer, value)

    def _of_missing(self, number: int) -> Truth:
        return self.general(number, _Missing())


class _Missing:
    """The root of a trace that has none."""

    def value(self, place: Place, name: str) -> Found:
        return None


def run(code: Code, leaf: Callable[[int], Truth], general: Callable[[int], Truth]) -> Truth:
    """The answer of a formula. `leaf` and `general` give the answers by number, and are asked from left to right, as far as
    the answer depends on them."""
    answer, at = FALSE, 0
    while at < len(code):
        operation, argument = code[at]
        at += 1
        if operation == LEAF:
            answer = leaf(argument)
        elif operation == GENERAL:
            answer = general(argument)
        elif operation == NOT:
            answer = answer if answer == ERROR else TRUE - answer
        elif operation == UNLESS_TRUE:
            at = at if answer == TRUE else argument
        elif operation == UNLESS_FALSE:
            at = at if answer == FALSE else argument
        else:
            answer = argument
    return answer


class _Compiler:
    """Numbers the fields, leaves and general conditions of all formulas, and writes the formulas' code."""

    def __init__(self) -> None:
        self.fields: dict[Field, int] = {}
        self.leaves: dict[str, Leaf] = {}
        self._numbers: dict[str, int] = {}
        self.generals: dict[str, General] = {}

    def code(self, of: Formula, each: Place) -> Code:
        """The code of a formula that is asked of each span (or of a root) or of each event. Raises ValueError."""
        code: list[tuple[int, int]] = []
        self._write(of, each, code)
        return tuple(code)

    def _write(self, of: Formula, each: Place, code: list[tuple[int, int]]) -> None:
        match of:
            case Leaf():
                code.append((LEAF, self._leaf(of, each)))
            case formula.All(members):
                self._join(members, each, code, UNLESS_TRUE, TRUE)
            case formula.Any(members):
                self._join(members, each, code, UNLESS_FALSE, FALSE)
            case formula.Not(inner):
                self._write(inner, each, code)
                code.append((NOT, 0))
            case _:
                code.append((GENERAL, self._general(of, each)))

    def _join(
        self, members: Sequence[Formula], each: Place, code: list[tuple[int, int]], jump: int, empty: Truth
    ) -> None:
        if not members:
            code.append((CONST, empty))
        jumps = []
        for place, member in enumerate(members):
            if place:
                jumps.append(len(code))
                code.append((jump, 0))
            self._write(member, each, code)
        for at in jumps:
            code[at] = (jump, len(code))

    def _leaf(self, leaf: Leaf, each: Place) -> int:
        if not fields.is_known(leaf.field):
            raise ValueError(f"{leaf.field.told} is not a field that a condition can name")
        if leaf.field.place is Place.EVENT and each is not Place.EVENT:
            raise ValueError(f"{leaf.field.told} is asked of a span: ask it of its events")
        text = formula.told(leaf)
        if text not in self.leaves:
            self.fields.setdefault(leaf.field, len(self.fields))
            self.leaves[text] = leaf
        return self._numbers.setdefault(f"leaf {text}", len(self.leaves) - 1)

    def _general(self, general: General, each: Place) -> int:
        if Place.EVENT in general.places and each is not Place.EVENT:
            raise ValueError(f"{general.told} is asked of a span: ask it of its events")
        self.generals.setdefault(general.told, general)
        return self._numbers.setdefault(f"general {general.told}", len(self.generals) - 1)


def whole_ms(low: int, high: int) -> int:
    """The time from `low` to `high` (u64, ns) in whole milliseconds, as Go's time.Time and time.Duration compute it: signed,
    saturated to 64 bits, truncated towards 0."""
    duration = (high if high < 1 << 63 else high - (1 << 64)) - (low if low < 1 << 63 else low - (1 << 64))
    duration = min(max(duration, -1 << 63), (1 << 63) - 1)
    return duration // 1_000_000 if duration >= 0 else -(-duration // 1_000_000)


def _kind(ask: Ask) -> int:
    return _KIND_SPANS if isinstance(ask, OfSpans) else _KIND_ROOT if isinstance(ask, OfRoot) else _KIND_WINDOW


def _masks(answers: Sequence[Truth]) -> tuple[int, int]:
    """The true answers, and those that failed, as bit masks."""
    trues = errors = 0
    for place, truth in enumerate(answers):
        if truth == TRUE:
            trues |= 1 << place
        elif truth != FALSE:
            errors |= 1 << place
    return trues, errors


def _packed(answers: Sequence[Truth]) -> bytes:
    """2 bits for each answer, from the low bits of each byte on."""
    packed = bytearray((len(answers) + 3) // 4)
    for place, answer in enumerate(answers):
        packed[place >> 2] |= answer << ((place & 3) * 2)
    return bytes(packed)


def _is_before(one: bytes, at: int, other: bytes, there: int) -> bool:
    """Whether the root at this place of `one` comes before the root of `other`: by start time, then by id."""
    mine, theirs = _u64(one, at), _u64(other, there)
    if mine != theirs:
        return mine < theirs
    return one[at + 8 : at + 16] < other[there + 8 : there + 16]


def _u64(facts: bytes, at: int) -> int:
    value = 0
    for place in range(at + 7, at - 1, -1):
        value = value << 8 | facts[place]
    return value


def safe(answer: Callable[[Any], Truth], of: Any) -> Truth:
    """An answer; ERROR if a condition raises, against its contract: one bug must not stop the reading of a topic."""
    try:
        return answer(of)
    except Exception:  # noqa: BLE001  # whatever it is, the scan goes on
        return ERROR


ASKS_NOTHING = Program(())
