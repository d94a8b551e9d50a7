"""Writes a section's policies in our own form (`sampling.policies`), with the same verdicts where our form can say them.

What it cannot say is told beside the policy. Chance is the main one: our random choice looks at the trace's randomness, the
Collector's at a hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import attrs

from tss.core.collector.plan import Plan
from tss.core.collector.section import Policy
from tss.core.conditions.language import Context, parse
from tss.core.patterns import expression

Condition = bool | str | Mapping[str, Any]
"""`when` of our policies: a text in OTTL or a mapping of short forms. True: every trace. False: none."""

MAX_NAME = 64  # letters of one of our names
RESERVED = ("none", "force")
_STATUS = {"OK": "ok", "ERROR": "error", "UNSET": "unset"}
_LAST_NUMBER = 2**63 - 1
LONGEST_MS = _LAST_NUMBER // 10**6  # the Collector's durations are nanoseconds in 63 bits, so no trace lasts longer


@final
@attrs.frozen
class Translated:
    """A policy in our form. `keep` is its rate; None: it drops. `when` False: it matches no trace, so it is not needed.

    `remarks` are sentences for a comment: where it surprises, and where the verdicts differ.
    """

    path: str
    name: str
    keep: float | None
    when: Condition
    remarks: tuple[str, ...]

    @property
    def plain(self) -> dict[str, Any]:
        """The policy as our YAML has it."""
        says: dict[str, Any] = {"drop": True} if self.keep is None else {"keep": _short(self.keep)}
        return {"name": self.name, **says, **({} if self.when is True else {"when": self.when})}


def _short(rate: float) -> float:
    return int(rate) if rate.is_integer() else rate


def translate(plan: Plan) -> list[Translated]:
    """The policies in the order of the section."""
    taken: set[str] = set()
    made = []
    for policy, _ in plan.votes:
        translator = _Translator()
        when, rate = translator.sampled(policy)
        keep: float | None = rate
        if policy.type == "drop":
            keep = None
            if rate < 1 and when is not False:
                translator.differs(
                    "it drops a part of the traces by chance, and our `drop` has no rate: it is left out"
                )
                when = False
        name = _free(_name(policy.name), taken)
        if name != policy.name:
            translator.differs(f"the name {json.dumps(policy.name, ensure_ascii=False)} is not possible here")
        surprises = [
            note.text if note.path == policy.path else f"At {note.path.removeprefix(f'{policy.path}.')}: {note.text}"
            for note in plan.notes
            if note.path == policy.path or note.path.startswith(f"{policy.path}.")
        ]
        made.append(Translated(policy.path, name, keep, when, (*surprises, *translator.remarks)))
    return made


def _name(name: str) -> str:
    parts = "".join(each if each.isprintable() else "\n" for each in name).split("\n")
    ours = " ".join(filter(None, parts)).replace(":", "-").strip()[:MAX_NAME].strip()
    return f"{ours} traces" if ours in RESERVED else ours or "unnamed"


def _free(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free = f"{name[: MAX_NAME - 5]} {number}"
        number += 1
    taken.add(free)
    return free


# ---- joining conditions


def all_of(of: Sequence[Condition]) -> Condition:
    """All of these hold of the trace."""
    if False in of:
        return False
    left = [each for each in of if each is not True]
    return True if not left else left[0] if len(left) == 1 else {"all": left}


def any_of(of: Sequence[Condition]) -> Condition:
    """One of these holds of the trace."""
    if True in of:
        return True
    left = [each for each in of if each is not False]
    return False if not left else left[0] if len(left) == 1 else {"any": left}


def opposite(of: Condition) -> Condition:
    """It does not hold of the trace."""
    if isinstance(of, bool):
        return not of
    if isinstance(of, Mapping) and of.keys() == {"not"}:
        inner: Condition = of["not"]
        return inner
    return {"not": of}


# ---- one policy


class _Translator:
    """Translates one policy, and notes where the verdicts differ."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self._makers: Mapping[str, Callable[[Any], Condition]] = {
            "latency": self._latency,
            "numeric_attribute": self._numeric,
            "string_attribute": self._string,
            "boolean_attribute": self._boolean,
            "status_code": _status,
            "span_count": _spans,
            "trace_state": _state,
            "ottl_condition": self._ottl,
        }

    def differs(self, text: str) -> None:
        """Note that the verdicts differ."""
        self.remarks.append(f"Differs: {text}.")

    def sampled(self, policy: Policy) -> tuple[Condition, float]:
        """The condition under which a policy samples a trace, and its rate then."""
        match policy.type:
            case "always_sample":
                return True, 1.0
            case "trace_flags":
                return "flags - flags / 2 * 2 == 1", 1.0  # whole numbers: what is left of a division by 2
            case "probabilistic":
                return self._chance(policy.own)
            case "and":
                return self._together(policy.own.and_sub_policy)
            case "drop":
                return self._together(policy.own.drop_sub_policy)
            case "not":
                return self._not(policy.own.not_sub_policy)
        return self._makers[policy.type](policy.own), 1.0

    # ---- policies of policies, and chance

    def _together(self, members: Sequence[Policy]) -> tuple[Condition, float]:
        parts = [self.sampled(member) for member in members]
        rates = [rate for _, rate in parts if rate < 1]
        if len(rates) > 1:
            self.differs("it has several policies that choose by chance; the lowest share is taken")
        return all_of([when for when, _ in parts]), min(rates, default=1.0)

    def _not(self, member: Policy) -> tuple[Condition, float]:
        when, rate = self.sampled(member)
        if member.type == "probabilistic":
            return True if rate < 1 else opposite(when), 1 - rate if rate < 1 else 1.0
        if member.type == "ottl_condition":
            self.differs("where a condition fails, so does its `not`, and the trace is not sampled")
        return opposite(when), 1.0

    def _chance(self, own: Any) -> tuple[Condition, float]:
        share = own.sampling_percentage / 100
        if share <= 0:
            return False, 1.0
        if share >= 1:
            return True, 1.0
        self.differs(
            "the share is the same, but other traces are chosen: by the trace's randomness, not by a salted hash"
        )
        return True, share

    # ---- numbers of the trace

    def _latency(self, own: Any) -> Condition:
        low, high = own.threshold_ms, own.upper_threshold_ms
        if (high and high <= low) or low >= LONGEST_MS:
            return False
        if high > LONGEST_MS:
            high = 0
        if high:
            self.differs("the duration of the whole trace counts, in any order of its spans")
        bounds = [f">= {low + 1}ms"] if low >= 0 else []
        if high < 0:
            return False
        if high:
            bounds.append(f"< {high + 1}ms")
        return {"latency": ", ".join(bounds)} if bounds else True

    # ---- attributes

    def _numeric(self, own: Any) -> Condition:
        # Every number fits the least and the largest one, and OTTL cannot write the least.
        low = [f"{{}} >= {own.min_value}"] if own.min_value and own.min_value > -_LAST_NUMBER - 1 else []
        high = [f"{{}} <= {own.max_value}"] if own.max_value and own.max_value < _LAST_NUMBER else []
        if own.max_value == -_LAST_NUMBER - 1:
            high = [f"{{}} < {-_LAST_NUMBER}"]
        if own.min_value and own.max_value and own.min_value > own.max_value:
            return own.invert_match is True
        inside = " and ".join([*low, *high]) or "true"
        others = (own.min_value or -1) <= 0 <= (own.max_value or 1)  # they are read as 0
        text = f"{{}} != nil and (not IsInt({{}}) or {inside})" if others else f"IsInt({{}}) and {inside}"
        plain = ", ".join(each.removeprefix("{} ") for each in (*low, *high))
        short = json.dumps({own.key: plain}, ensure_ascii=False)
        if plain:
            self.remarks.append(f"If the attribute is always a whole number, this is simpler: attribute: {short}.")
        return _inverted(own, _of_either(own.key, text, text))

    def _string(self, own: Any) -> Condition:
        if own.enabled_regex_matching:
            return _inverted(own, any_of([_matching(own.key, pattern) for pattern in dict.fromkeys(own.values)]))
        texts = [text for text in dict.fromkeys(own.values) if text]
        if not texts:
            return _inverted(own, False)
        if own.key and all(_is_plain(text) for text in texts):
            return _inverted(own, {"attribute": {own.key: texts[0] if len(texts) == 1 else texts}})
        return _inverted(own, any_of([_of_either(own.key, *[f"{{}} == {_quoted(text)}"] * 2) for text in texts]))

    def _boolean(self, own: Any) -> Condition:
        if own.value:
            short: Condition = {"attribute": {own.key: True}}
            return _inverted(own, short if own.key else _of_either(own.key, "{} == true", "{} == true"))
        return _inverted(own, _of_either(own.key, *["{} != nil and {} != true"] * 2))

    # ---- conditions

    def _ottl(self, own: Any) -> Condition:
        if own.error_mode == "propagate":
            self.differs("a condition that fails counts as false, and the next ones are still looked at")
        events = [_of_event(text) for text in own.spanevent]
        return any_of([*own.span, *events])


def _inverted(own: Any, when: Condition) -> Condition:
    return opposite(when) if own.invert_match else when


def _status(own: Any) -> Condition:
    codes = [_STATUS[code] for code in dict.fromkeys(own.status_codes)]
    return {"status": codes[0] if len(codes) == 1 else codes}


def _spans(own: Any) -> Condition:
    if own.max_spans < 0 or (own.max_spans and own.max_spans < own.min_spans):
        return False
    bounds = [f">= {own.min_spans}"] if own.min_spans > 1 else []
    if own.max_spans:
        bounds.append(f"<= {own.max_spans}")
    return {"spans": ", ".join(bounds)} if bounds else True


def _state(own: Any) -> Condition:
    room = 256 - len(own.key.encode())
    values = [each for each in dict.fromkeys(own.values) if each and len(each.encode()) < room]
    return any_of([f"trace_state[{_quoted(own.key)}] == {_quoted(each)}" for each in values])


def _matching(key: str, pattern: str) -> Condition:
    """A match of an expression, by the rules of `string_attribute`."""
    matches = f"IsMatch({{}}, {_quoted(pattern)})"
    if expression(pattern).search("") is None:
        return _of_either(key, *[f"IsString({{}}) and {matches}"] * 2)
    of_resource = f"{{}} != nil and (not IsString({{}}) or {matches})"
    return _of_either(key, of_resource, f'IsString({{}}) and {{}} != "" and {matches}')


def _of_either(key: str, of_resource: str, of_span: str) -> str:
    """A condition on the attribute of the span or of its resource. `{}` stands for its path."""
    paths = (f"{place}attributes[{_quoted(key)}]" for place in ("", "resource."))
    span, resource = (text.replace("{}", path) for text, path in zip((of_span, of_resource), paths, strict=True))
    if " and " in span or " and " in resource:
        return f"({span}) or ({resource})"
    return f"{span} or {resource}"


def _of_event(text: str) -> str:
    """A condition of a span event. Ours is one if it names `spanevent.`."""
    told = text if "spanevent." in text else parse(text, Context.SPAN_EVENT).told
    return told if "spanevent." in told else f"spanevent.name != nil and ({told})"


def _is_plain(text: str) -> bool:
    """Whether our short form compares an attribute with this text, and not with a pattern or with bounds."""
    return text.isprintable() and text == text.strip() and not set(text) & set("*?") and text[0] not in "<>"


def _quoted(text: str) -> str:
    """A text of OTTL."""
    return json.dumps(text, ensure_ascii=False)
