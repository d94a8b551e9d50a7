"""Makes the votes of a section's policies. What the Collector refuses when it starts is refused here too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tss.core.collector.attributes import (
    Expressions,
    FlaggedSampled,
    NumberInRange,
    ReadsAsFalse,
    StateMember,
    on_either,
    status_in,
    text_in,
)
from tss.core.collector.keys import nearest, shown
from tss.core.collector.schemaless import without_schema_urls
from tss.core.collector.section import BLOCKS, NESTED, WITHOUT_BLOCK, Policy, Section
from tss.core.collector.votes import AllOf, Always, AnyHeld, Chosen, Held, Opposite, SpanCount, Vote
from tss.core.collector.wrong import Findings
from tss.core.conditions.formula import Any as AnyOf
from tss.core.conditions.formula import Compare, Field, Fold, Formula, Leaf, OfSpans, Place, Window
from tss.core.conditions.language import ConditionError, Context, parse
from tss.core.conditions.splitting import to_formula
from tss.core.patterns import expression

GATES = (
    "usetracestate",
    "recordpolicy",
    "metricstatcountspanssampled",
    "metricstatcountbytessampled",
    "tailstorageextension",
)
"""The processor's feature gates, without their common prefix."""
GATE_PREFIX = "processor.tailsamplingprocessor."

_CODES = {"UNSET": 0, "OK": 1, "ERROR": 2}
_LEAST, _MOST = -(2**63), 2**63 - 1
_NOTHING = Vote()  # stands for a policy that was refused
_TYPES = (*WITHOUT_BLOCK, *BLOCKS, *NESTED)
_MEMORY = "a type that decides from the trace alone"
_LATER = "it limits a rate, and so has to remember earlier traces: such policies will come in a later version"
_INSTEAD = "until then use probabilistic, with the share that gives about this rate, or leave the policy out"
_LIMITERS = {
    "rate_limiting": _INSTEAD,
    "bytes_limiting": _INSTEAD,
    "composite": "until then write its sub-policies into the list policies, each within `and` with a probabilistic",
}
MEMBERS = (*WITHOUT_BLOCK, *(name for name in BLOCKS if name not in _LIMITERS))
"""The types that may stand in `not`; in `and` and `drop` also `not`."""


class Builder:
    """Makes votes, and adds what is wrong to the findings.

    ``consistent``: whether the gate `usetracestate` is on. ``schemaless``: whether schema URLs are lost, as in v0.161.
    """

    def __init__(self, found: Findings, *, consistent: bool, schemaless: bool) -> None:
        self._found = found
        self._consistent = consistent
        self._schemaless = schemaless
        self._makers: Mapping[str, Callable[[Policy, Any], Vote]] = {
            "latency": self._latency,
            "numeric_attribute": self._numeric,
            "string_attribute": self._string,
            "boolean_attribute": self._boolean,
            "status_code": self._status,
            "span_count": self._spans,
            "trace_state": self._state,
            "ottl_condition": self._ottl,
            "probabilistic": self._probabilistic,
            "and": lambda _, own: self._all(own.and_sub_policy),
            "drop": lambda _, own: self._all(own.drop_sub_policy),
            "not": self._not,
        }

    def votes(self, section: Section) -> list[tuple[Policy, Vote]]:
        """The vote of each policy, in the order of the section. Names have to be there, and to differ."""
        names: dict[str, str] = {}
        made = []
        for policy in section.policies:
            if self._found.refused(f"{policy.path}.name"):
                pass
            elif not policy.name:
                self._found.refuse(f"{policy.path}.name", "nothing", "a name")
            elif policy.name in names:
                allowed = f"a name other than that of {names[policy.name]}"
                self._found.refuse(f"{policy.path}.name", shown(policy.name), allowed)
            names.setdefault(policy.name, policy.path)
            made.append((policy, self._vote(policy, _TYPES)))
        return made

    def _vote(self, policy: Policy, types: tuple[str, ...]) -> Vote:
        if policy.type in _LIMITERS:
            hint = f"{_LATER}; {_LIMITERS[policy.type]}"
            self._found.refuse(f"{policy.path}.type", shown(policy.type), _MEMORY, hint)
            return _NOTHING
        if self._found.refused(f"{policy.path}.type"):
            return _NOTHING
        if policy.type not in types:
            allowed = [each for each in types if each not in _LIMITERS]
            hint = nearest(policy.type, allowed)
            if policy.type in NESTED:
                hint = f"{policy.type} may stand only in the list policies"
            elif not hint and policy.type:
                hint = "types of the Collector's extensions are not known here"
            self._found.refuse(f"{policy.path}.type", shown(policy.type or None), ", ".join(allowed), hint)
            return _NOTHING
        if policy.type == "always_sample":
            return Always()
        if policy.type == "trace_flags":
            return Held(OfSpans(Leaf(Field(Place.SPAN, "flags"), FlaggedSampled())))
        return self._makers[policy.type](policy, policy.own)

    # ---- attributes

    def _numeric(self, policy: Policy, own: Any) -> Vote:
        if not own.min_value and not own.max_value:
            path = f"{policy.path}.numeric_attribute"
            hint = "0 is no bound, and without a bound the Collector crashes at its first decision"
            self._found.refuse(path, "no bound", "a min_value or a max_value other than 0", hint)
            return _NOTHING
        test = NumberInRange(own.min_value or _LEAST, own.max_value or _MOST)
        return Held(OfSpans(on_either(own.key, test, test)), inverted=own.invert_match)

    def _string(self, policy: Policy, own: Any) -> Vote:
        if not own.enabled_regex_matching:
            texts = frozenset(own.values) - {""}
            return Held(OfSpans(text_in(own.key, texts)), inverted=own.invert_match)
        if not self._are_expressions(own.values, f"{policy.path}.string_attribute.values"):
            return _NOTHING
        of_resource, of_span = (Expressions(own.values, of_resource=place) for place in (True, False))
        return Held(OfSpans(on_either(own.key, of_resource, of_span)), inverted=own.invert_match)

    def _are_expressions(self, patterns: tuple[str, ...], path: str) -> bool:
        before = len(self._found.wrong)
        for place, pattern in enumerate(patterns):
            try:
                expression(pattern)
            except ValueError as error:
                hint = "RE2 has neither look-around nor backreferences" if "(?" in pattern else ""
                self._found.refuse(f"{path}[{place}]", f"{shown(pattern)}: {error}", "an expression of RE2", hint)
        return len(self._found.wrong) == before

    def _boolean(self, policy: Policy, own: Any) -> Vote:
        test = Compare("==", True) if own.value else ReadsAsFalse()  # an attribute's value
        return Held(OfSpans(on_either(own.key, test, test)), inverted=own.invert_match)

    # ---- other fields

    def _latency(self, policy: Policy, own: Any) -> Vote:
        return Held(Window(own.threshold_ms, own.upper_threshold_ms))

    def _spans(self, policy: Policy, own: Any) -> Vote:
        return SpanCount(own.min_spans, own.max_spans)

    def _status(self, policy: Policy, own: Any) -> Vote:
        path = f"{policy.path}.status_code.status_codes"
        if not own.status_codes:
            self._found.refuse(path, "no status", "a list of OK, ERROR and UNSET")
        for place, code in enumerate(own.status_codes):
            if code not in _CODES:
                hint = f"did you mean {code.upper()}?" if code.upper() in _CODES else nearest(code.upper(), _CODES)
                self._found.refuse(f"{path}[{place}]", shown(code), "OK, ERROR or UNSET", hint)
        return Held(OfSpans(status_in(frozenset(_CODES.get(code, 0) for code in own.status_codes))))

    def _state(self, policy: Policy, own: Any) -> Vote:
        # The Collector leaves out what no header can hold: a key and a value with more than 256 characters.
        room = 256 - len(own.key.encode())
        values = frozenset(each for each in own.values if each and len(each.encode()) < room)
        return Held(OfSpans(Leaf(Field(Place.SPAN, "trace_state"), StateMember(own.key, values))))

    def _probabilistic(self, policy: Policy, own: Any) -> Vote:
        return Chosen(own.sampling_percentage, own.hash_salt, consistent=self._consistent)

    def _ottl(self, policy: Policy, own: Any) -> Vote:
        path = f"{policy.path}.ottl_condition"
        spans = self._conditions(own.span, Place.SPAN, f"{path}.span")
        events = self._conditions(own.spanevent, Place.EVENT, f"{path}.spanevent")
        if not own.span and not own.spanevent:
            self._found.refuse(path, "no condition", "a list span, a list spanevent, or both")
        if own.error_mode == "propagate":
            # A span's conditions come before those of its events, and the first that holds or fails settles the policy.
            return Held(OfSpans(AnyOf(spans), fold=Fold.FIRST, events=AnyOf(events) if events else None))
        return AnyHeld([*map(OfSpans, spans), *(OfSpans(event, each=Place.EVENT) for event in events)])

    def _conditions(self, texts: tuple[str, ...], each: Place, path: str) -> tuple[Formula, ...]:
        made = []
        for place, text in enumerate(texts):
            try:
                formula = to_formula(parse(text, Context.SPAN_EVENT if each is Place.EVENT else Context.SPAN))
            except ConditionError as error:
                for further in error.all:
                    self._found.refuse(f"{path}[{place}]", *_told(further, text))
            else:
                made.append(without_schema_urls(formula) if self._schemaless else formula)
        return tuple(made)

    # ---- policies of policies

    def _not(self, policy: Policy, own: Any) -> Vote:
        member = own.not_sub_policy
        if not member.path:
            self._found.refuse(f"{policy.path}.not.not_sub_policy", "nothing", "a policy, with type and its block")
            return _NOTHING
        return Opposite(self._vote(member, MEMBERS))

    def _all(self, members: tuple[Policy, ...]) -> Vote:
        return AllOf([self._vote(member, (*MEMBERS, "not")) for member in members])


def _told(error: ConditionError, text: str) -> tuple[str, str, str]:
    """What was found, what is allowed, and a hint: the error says `found X, expected Y; hint`."""
    found, _, rest = error.message.partition(", expected ")
    expected, _, hint = rest.partition("; ")
    line = f"line {error.line}, " if "\n" in text.strip() else ""
    return f"{found.removeprefix('found ')} at {line}column {error.column}", expected or "an OTTL condition", hint


def gates_of(names: Sequence[str], found: Findings) -> frozenset[str]:
    """The feature gates without their prefix. `names` may have it."""
    gates = set()
    for place, name in enumerate(names):
        short = name.removeprefix(GATE_PREFIX)
        if short not in GATES:
            found.refuse(f"otelGates[{place}]", shown(name), ", ".join(GATES), nearest(short, GATES))
        gates.add(short)
    return frozenset(gates)
