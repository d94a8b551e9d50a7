"""The condition language: OTTL's conditions as of pkg/ottl v1.4.1, and in ours `root.`, `trace.` and `duration`.

`parse` reads a condition, `to_formula` splits it into what the scanner answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import attrs

from tss.core.conditions import evaluation, parser
from tss.core.conditions.checked import Fixed, Logic, Reference, owners, references
from tss.core.conditions.checking import Checker
from tss.core.conditions.errors import ConditionError
from tss.core.conditions.formula import Field, Found, Place, SpanView, Truth
from tss.core.conditions.paths import Context, Keys, Of

__all__ = ["Condition", "ConditionError", "Context", "Of", "field_of", "from_view", "parse"]


@final
@attrs.frozen(eq=False)
class Condition:
    """A condition that was read and checked."""

    text: str
    context: Context
    logic: Logic

    @property
    def told(self) -> str:
        """Its canonical text, which is a condition too. Conditions with the same text answer the same."""
        return self.logic.told

    @property
    def owners(self) -> frozenset[Of]:
        """Whose values it reads: the span's, the root's, the trace's."""
        return owners(self.logic)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields it reads, without repetitions, in order. A whole map of attributes has an empty key."""
        found = (field_of(each) for each in references(self.logic) if each.found.of is not Of.TRACE)
        return tuple(dict.fromkeys(each for each in found if each is not None))

    @property
    def constant(self) -> bool | None:
        """Its answer, if it is the same for every span."""
        return self.logic.value if isinstance(self.logic, Fixed) else None

    def evaluator(self) -> Callable[[SpanView], Truth]:
        """Answers it for one span (or event, or the root): TRUE, FALSE or ERROR. `trace.` paths are nil."""
        ask = evaluation.logic(self.logic, from_view)
        return lambda view: evaluation.decided(ask, view)


def parse(text: str, context: Context = Context.SPAN, *, ours: bool = False) -> Condition:
    """Read a condition that is asked of spans, or of events. With `ours`, `root.`, `trace.` and `duration` are known too.

    Raises ConditionError, and nothing else.
    """
    return Condition(text, context, Checker(context, ours).logic(parser.read(text)))


def field_of(reference: Reference) -> Field | None:
    """The field that a path reads; None if it reads none. Several paths read the same: `start_time` and
    `start_time_unix_nano`."""
    found = reference.found
    if not found.target.name:
        return None
    key = reference.key if found.target.keys is Keys.MAP else None
    return Field(found.place, found.target.name, key or "")


def from_view(reference: Reference) -> Callable[[SpanView], Found]:
    """How a path is read from a view of a span."""
    found, key = reference.found, reference.key
    place, name = found.place, found.target.name
    if not name or found.of is Of.TRACE:
        return lambda _: None
    if found.target.keys is Keys.MAP and key is not None:
        return lambda view: _attribute(view, place, key)
    return lambda view: view.value(place, name)


def _attribute(view: SpanView, place: Place, key: str) -> Found:
    attributes: Any = view.value(place, "attributes")
    return None if attributes is None else attributes.get(key)
