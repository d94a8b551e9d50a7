"""Random programs for the records of `making`."""

from __future__ import annotations

from random import Random

from attrs import frozen

from fuzz.making import KEYS, NUMBERS, SPANS, TEXTS
from tss.core.conditions.automaton import Texts
from tss.core.conditions.fields import ATTRIBUTES, NAMES
from tss.core.conditions.formula import (
    ERROR,
    FALSE,
    TRUE,
    All,
    Any,
    Ask,
    Compare,
    Field,
    Fold,
    Formula,
    Found,
    Leaf,
    Matches,
    Not,
    OfRoot,
    OfSpans,
    Place,
    SpanView,
    Test,
    Truth,
    Window,
)
from tss.core.conditions.program import Program
from tss.core.patterns import expression

OPERATORS = ("==", "==", "!=", "<", "<=", ">", ">=")
CONSTANTS: tuple[str | bool | float | bytes | None, ...] = (
    None, None, True, False, 0, 1, 2, 127, 2**53 + 1, -1, 2**63 - 1, -(2**63), 2**63, 0.0, -0.0, 1.0, 0.5, float(2**53),
    float("inf"), float("nan"), b"", b"\xff\xfe", bytes(8), SPANS[1], "\ufffd", "\udcff", "GET", "other",
    *(text.decode("utf-8", "replace") for text in TEXTS),
)  # fmt: skip
TIMES_MS = (-1, 0, 1, 5, 2**40)


@frozen
class Fickle:
    """Answers each value in its own way, errors included."""

    salt: int

    @property
    def told(self) -> str:
        return f"fickle {self.salt}"

    def answer(self, value: Found) -> Truth:
        return len(f"{value!r}") * 31 % (self.salt + 3) % 3


@frozen
class Alike:
    """Whether the span and its resource have the same value under a key; ERROR if an event has another one."""

    key: str
    of_event: bool = False

    @property
    def told(self) -> str:
        return f"alike {self.key!r} {self.of_event}"

    @property
    def places(self) -> frozenset[Place]:
        return frozenset((Place.SPAN, Place.RESOURCE, *((Place.EVENT,) if self.of_event else ())))

    def answer_of(self, view: SpanView) -> Truth:
        own, shared = view.value(Place.SPAN, ATTRIBUTES), view.value(Place.RESOURCE, ATTRIBUTES)
        if not isinstance(own, dict) or not isinstance(shared, dict):
            return ERROR
        if self.of_event:
            event = view.value(Place.EVENT, ATTRIBUTES)
            if isinstance(event, dict) and repr(event.get(self.key)) != repr(own.get(self.key)):
                return ERROR
        return TRUE if self.key in own and repr(own[self.key]) == repr(shared.get(self.key)) else FALSE


def program(rng: Random, most: int = 12) -> Program:
    """Up to `most` asks of all kinds; now and then very many."""
    if rng.random() < 0.05:
        most = 150
    return Program([_ask(rng) for _ in range(rng.randrange(most + 1))])


def _ask(rng: Random) -> Ask:
    kind = rng.randrange(10)
    if kind == 0:
        return OfRoot(_formula(rng, events=False))
    if kind == 1:
        return Window(rng.choice(TIMES_MS), rng.choice((0, *TIMES_MS)))
    fold = rng.choice((Fold.ANY, Fold.FIRST))
    if kind == 2:
        return OfSpans(_formula(rng, events=True), Place.EVENT, fold)
    events = _formula(rng, events=True) if kind == 3 else None
    return OfSpans(_formula(rng, events=False), Place.SPAN, fold, events)


def _formula(rng: Random, *, events: bool, depth: int = 2) -> Formula:
    kind = rng.randrange(10 if depth else 6)
    if kind < 5:
        return _leaf(rng, events=events)
    if kind == 5:
        if rng.random() < 0.3:
            return Alike(_key(rng), events and rng.random() < 0.5)
        return _one_of(rng)
    if kind == 6:
        return Not(_formula(rng, events=events, depth=depth - 1))
    members = tuple(_formula(rng, events=events, depth=depth - 1) for _ in range(rng.randrange(4)))
    return All(members) if kind < 8 else Any(members)


def _one_of(rng: Random) -> Formula:
    """Whether an attribute is one of many texts: more than are compared one by one, or more than a word of answers has."""
    field = Field(Place.SPAN, ATTRIBUTES, rng.choice(("k", "service.name")))
    texts = [*(text.decode("utf-8", "replace") for text in TEXTS), *map(str, range(rng.choice((1, 20, 100))))]
    return Any(tuple(Leaf(field, Compare("==", text)) for text in texts))


def _key(rng: Random) -> str:
    return rng.choice(KEYS).decode("utf-8", "surrogateescape")


def _leaf(rng: Random, *, events: bool) -> Leaf:
    places = [Place.SPAN, Place.SPAN, Place.RESOURCE, Place.SCOPE, *((Place.EVENT,) * 3 if events else ())]
    place = rng.choice(places)
    if rng.random() < 0.5:
        field = Field(place, ATTRIBUTES, _key(rng))
    else:
        field = Field(place, rng.choice(sorted(NAMES[place] - {ATTRIBUTES})))
    return Leaf(field, _test(rng))


_ATOMS = (
    *"abkGET/0-k ", r"\.", "é", r"\n", r"\x61", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "^", "$", r"\A", r"\z", "",
    "[ab]", "[^a]", "[a-f0-9]", "[^/]", "[[:alpha:]_]", r"[\d.]", "[-a]", "[a-]", "[é-]", "[a-é]", r"[^\W]", "[$^*]", r"[\]]", "[[]",
    r"\b", r"\pL", "a{2}", "{", "]", r"\Q.\E",
)  # fmt: skip
_REPEATS = ("*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{0,2}?", "{2,}", "{0}", "{,2}")


def pattern(rng: Random, depth: int = 3) -> str:
    """A regular expression that RE2 takes, with what an automaton does not know among it."""
    while True:
        drawn = str(rng.choice(("", "", "", "(?i)", "(?s)", "(?m)"))) + _pattern(rng, depth)
        try:
            expression(drawn)
        except ValueError:
            continue
        return drawn


def _pattern(rng: Random, depth: int) -> str:
    kind = rng.randrange(9 if depth else 4)
    if kind < 4:
        return str(rng.choice(_ATOMS))
    inner = _pattern(rng, depth - 1)
    if kind == 4:
        return f"({rng.choice(('', '?:', '?i:', '?s:', '?is:', '?-i:', '?P<n>'))}{inner})"
    if kind == 5:
        return f"(?:{inner}){rng.choice(_REPEATS)}"
    return f"{inner}{'|' if kind == 6 else ''}{_pattern(rng, depth - 1)}"


@frozen
class Within:
    """As `numeric_attribute` of the Collector: other values than ints are 0."""

    low: int
    high: int

    @property
    def told(self) -> str:
        return f"within {self.low} {self.high}"

    @property
    def of_int(self) -> tuple[int, int]:
        return self.low, self.high

    def answer(self, value: Found) -> Truth:
        number = value if type(value) is int else 0
        return FALSE if value is None or not self.low <= number <= self.high else TRUE


@frozen
class Lacks:
    """Whether a text has no match; ERROR for other values."""

    patterns: tuple[str, ...]

    @property
    def told(self) -> str:
        return f"lacks {self.patterns!r}"

    @property
    def of_text(self) -> Texts:
        return Texts(self.patterns, is_negated=True)

    def answer(self, value: Found) -> Truth:
        if not isinstance(value, str):
            return ERROR
        if not value:
            return ERROR  # of the empty text nothing is told
        found = [expression(each).search(value.encode("utf-8", "surrogatepass")) for each in self.patterns]
        return TRUE if found.count(None) == len(found) else FALSE


def _test(rng: Random) -> Test:
    kind = rng.randrange(8)
    if kind == 0:
        return Matches(pattern(rng))
    if kind == 6:
        return Lacks(tuple(pattern(rng, 1) for _ in range(rng.randrange(3))))
    if kind == 7:
        return Within(rng.choice((-(2**70), -1, 0, 1, 3)), rng.choice((-1, 0, 2, 127, 2**63 - 1, 2**80)))
    if kind == 1:
        return Fickle(rng.randrange(4))
    return Compare(rng.choice(OPERATORS), rng.choice((*CONSTANTS, *NUMBERS)))
