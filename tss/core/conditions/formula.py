"""What a condition is made of: fields, tests of one field, and formulas over tests. An `Ask` is a formula asked of a trace.

All forms of conditions compile to this: OTTL's language, the short forms of the policies, the Collector's attribute policies,
force rules and `exporters[].match`. `program.Program` answers it, while a record is scanned.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, final

import attrs

from tss.core.conditions.automaton import Texts
from tss.core.conditions.comparing import compare
from tss.core.patterns import expression, finder

FALSE, TRUE, ERROR = 0, 1, 2
"""The three answers. `ERROR` is OTTL's: the evaluation failed. `not ERROR` is ERROR; `and` and `or` stop at the first member
that settles them, from left to right, and an error settles both."""

Truth = int

Found = str | bool | int | float | bytes | Sequence["Found"] | Mapping[str, "Found"] | None
"""A value of OTLP's AnyValue, decoded; None if there is none. Bytes that are not UTF-8 are U+FFFD in a text."""


class Place(enum.Enum):
    """The message that has a field."""

    SPAN = "span"
    EVENT = "event"
    RESOURCE = "resource"
    SCOPE = "scope"


@final
@attrs.frozen
class Field:
    """A field of a span, an event, a resource or a scope.

    `name` is OTTL's path without its context, with its sections joined by dots: "attributes", "name", "kind", "status.code",
    "trace_state", "flags", "parent_span_id", "start_time_unix_nano", ... For "attributes", `key` is the attribute's key.
    One field is computed: "duration" of a span, `end_time_unix_nano - start_time_unix_nano` as OTTL computes it (int64).
    """

    place: Place
    name: str
    key: str = ""

    @property
    def told(self) -> str:
        """Its canonical text, for fingerprints and messages."""
        name = f'{self.name}["{self.key}"]' if self.name == "attributes" else self.name
        return f"{self.place.value}.{name}"


class Test(Protocol):
    """A question about the value of one field. Equal questions have equal texts.

    An attribute may be there without a value. It counts as missing, unless the test has an attribute `of_no_value`: the answer then.
    Two attributes let the scanner answer without Python. `of_text` (`Texts`) says how the test answers for texts. `of_int` has
    the least and the greatest int for which it is TRUE; then its answer for texts, for floats and for bytes is always the same.
    """

    @property
    def told(self) -> str:
        """Its canonical text: two tests with the same text answer the same for every value, in every version."""

    def answer(self, value: Found) -> Truth:
        """The answer for a value; None means that the field is missing. Never raises."""


@final
@attrs.frozen
class Compare:
    """OTTL's comparison of a field with a constant: `==`, `!=`, `<`, `<=`, `>` or `>=`. The scanner does it without Python.

    Numbers compare with numbers, texts with texts, and so on; values of different types are never equal and have no order.
    A missing value is nil: equal to nil only. Source: pkg/ottl, `compare.go` (v1.4.1).
    """

    operator: str
    constant: str | bool | int | float | bytes | None

    @property
    def told(self) -> str:
        return f"{self.operator} {self.constant!r}"

    def answer(self, value: Found) -> Truth:
        """See Test."""
        return TRUE if compare(self.operator, value, self.constant) else FALSE


@final
@attrs.frozen
class Matches:
    """Whether a text has a match of an RE2 expression; False for every other value and for a missing one."""

    pattern: str
    _finds: Callable[[str], bool] = attrs.field(init=False, eq=False, repr=False)

    @_finds.default
    def _compiled(self) -> Callable[[str], bool]:
        return finder(expression(self.pattern))

    @property
    def told(self) -> str:
        return f"matches {self.pattern!r}"

    @property
    def of_text(self) -> Texts:
        """See Test."""
        return Texts((self.pattern,))

    def answer(self, value: Found) -> Truth:
        """See Test."""
        return TRUE if isinstance(value, str) and self._finds(value) else FALSE


class SpanView(Protocol):
    """What a `General` condition may look at: the fields of one span, of its resource and scope, and of one event."""

    def value(self, place: Place, name: str) -> Found:
        """A field's value. "attributes" is a mapping of all attributes; None: the field is missing."""


class General(Protocol):
    """A condition that needs several fields at once, or a whole map. It runs in Python, on the spans where it is reached."""

    @property
    def told(self) -> str:
        """Its canonical text."""

    @property
    def places(self) -> frozenset[Place]:
        """Where its fields are."""

    def answer_of(self, view: SpanView) -> Truth:
        """The answer for one span. Never raises."""


@final
@attrs.frozen
class Leaf:
    """One test of one field."""

    field: Field
    test: Test


@final
@attrs.frozen
class All:
    """`and`, from left to right. Empty: true."""

    of: tuple[Formula, ...]


@final
@attrs.frozen
class Any:
    """`or`, from left to right. Empty: false."""

    of: tuple[Formula, ...]


@final
@attrs.frozen
class Not:
    """`not`."""

    of: Formula


Formula = Leaf | General | All | Any | Not


def told(formula: Formula) -> str:
    """The canonical text of a formula."""
    match formula:
        case Leaf(field, test):
            return f"{field.told} {test.told}"
        case All(of):
            return f"({' and '.join(map(told, of))})" if of else "true"
        case Any(of):
            return f"({' or '.join(map(told, of))})" if of else "false"
        case Not(of):
            return f"not {told(of)}"
    return formula.told


class Fold(enum.Enum):
    """How the answers of a trace's spans become one."""

    ANY = "any"  # TRUE if it is true of any span; else ERROR if it failed for any; else FALSE
    FIRST = "first"  # the first answer, in the order of the records, that is not FALSE: the Collector's `propagate`


@final
@attrs.frozen
class OfSpans:
    """Whether a formula holds for any span of a trace, or with `Place.EVENT` for any event of any span.

    With `events`, the answers of each span's events by that formula come after the span's own answer: all of them are one
    sequence. The Collector's `ottl_condition` does so, where `fold` is FIRST.
    """

    formula: Formula
    each: Place = Place.SPAN
    fold: Fold = Fold.ANY
    events: Formula | None = None

    @property
    def told(self) -> str:
        """Its canonical text."""
        events = "" if self.events is None else f", {told(self.events)}"
        return f"{self.fold.value} {self.each.value}: {told(self.formula)}{events}"


@final
@attrs.frozen
class OfRoot:
    """Whether a formula holds for the root: of the spans without a parent the one with the least start time, then the least
    span id. Without a root all its fields are missing."""

    formula: Formula

    @property
    def told(self) -> str:
        """Its canonical text."""
        return f"root: {told(self.formula)}"


@final
@attrs.frozen
class Window:
    """The Collector's `latency` policy, which looks at the running minimum of the starts and maximum of the ends span by span:
    TRUE if after any span `threshold_ms < duration` and, unless `upper_ms` is 0, `duration <= upper_ms`, in whole milliseconds."""

    threshold_ms: int
    upper_ms: int = 0

    @property
    def told(self) -> str:
        """Its canonical text."""
        return f"window: {self.threshold_ms} {self.upper_ms}"


Ask = OfSpans | OfRoot | Window
