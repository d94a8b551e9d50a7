"""For `tss check`: policies that are allowed and do nothing, or more than anybody wants."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tss.commands.units import share
from tss.core.conditions.doubts import doubts
from tss.core.conditions.statement import settled, unguarded
from tss.settings import PolicySetting, Sampling

_SLOW = (
    "this compares several fields at once, in Python and for every span, which is slow; put a comparison of one field with a "
    'constant before it, as in attributes["a"] != nil and ...'
)


def policy_warnings(sampling: Sampling) -> Iterator[tuple[str, str]]:
    """Pairs of a key and a warning."""
    for place, policy in enumerate(sampling.policies):
        key = f"sampling.policies[{place}]"
        doubtful = [sentence for text in _texts(policy.when) for sentence in doubts(text)]
        if settled(policy.statement) is False:
            never = f"no trace ever fits this, so the policy {policy.name} does nothing"
            why = ": " + "; ".join(doubtful) if doubtful else "; correct it or remove the policy"
            yield f"{key}.when", never + why
            continue
        for sentence in [*doubtful, *_expressions(policy.when)]:
            yield f"{key}.when", sentence
        if unguarded(policy.statement):
            yield f"{key}.when", _SLOW
        if not policy.shadow:
            earlier = [each for each in sampling.policies[:place] if not each.shadow]
            text = _never_first(policy, earlier) if sampling.combine == "first" else _outdone(policy, place, sampling)
            if text:
                yield key, text
    yield from _of_all(sampling)


def _texts(when: object) -> Iterator[str]:
    """All OTTL conditions in a `when`."""
    match when:
        case str():
            yield when
        case dict():
            for key, below in when.items():
                if key in {"any", "all"}:
                    for each in below:
                        yield from _texts(each)
                elif key == "not":
                    yield from _texts(below)


def _expressions(when: object) -> Iterator[str]:
    """Texts of short forms that look like regular expressions. They would be compared as globs or as they stand."""
    if not isinstance(when, dict):
        return
    for key, below in when.items():
        each = below if isinstance(below, list) else [below]
        if key in {"any", "all", "not"}:
            for inner in each:
                yield from _expressions(inner)
        elif key == "attribute":
            for inner in below.values():
                yield from _expressions({"service": inner})
        elif key in {"service", "route"}:
            for text in each:
                if isinstance(text, str) and _EXPRESSION.search(text):
                    yield (
                        f"{text!r} looks like a regular expression, but it is compared as a glob, in which only * and ? stand for other "
                        "letters; write a glob such as '/api/*', or an OTTL condition with IsMatch(...)"
                    )


# Not any `.*`: `com.acme.*` is a glob of a service.
_EXPRESSION = re.compile(r"^\^|^\.[*+]|\.\+|\$$|\\[dwsb.]|\(\?|[\])]\+|\([^()|]*\|")


def _never_first(policy: PolicySetting, earlier: list[PolicySetting]) -> str:
    """Why a policy is never asked when the first that matches decides."""
    for each in earlier:
        if settled(each.statement):
            return f"{policy.name} is never asked: {each.name} stands before it and matches every trace; move {each.name} to the end"
        if each.statement == policy.statement:
            return f"{policy.name} is never asked: {each.name} stands before it with the same condition; remove one of the two"
    return ""


def _outdone(policy: PolicySetting, place: int, sampling: Sampling) -> str:
    """Why a policy changes no decision when a drop wins, else the highest rate."""
    if policy.keep is None:
        return ""
    for other_place, each in enumerate(sampling.policies):
        is_wider = settled(each.statement) or each.statement == policy.statement
        if other_place == place or each.shadow or not is_wider:
            continue
        if each.keep is None:
            return f"{policy.name} does nothing: {each.name} drops all of its traces, and a drop wins; remove one of the two"
        if each.keep > policy.keep:
            return (
                f"{policy.name} does nothing: {each.name} keeps {share(each.keep)} of its traces, and the highest rate wins; for less "
                "than that use combine: first, or a condition that leaves them out of the other policy"
            )
    return ""


def _narrower(policy: PolicySetting) -> str:
    """How to make a policy apply to fewer traces than all."""
    return "give it a `when`" if policy.when is None else "its `when` is true of every trace: make it narrower"


def _of_all(sampling: Sampling) -> Iterator[tuple[str, str]]:
    acting = [each for each in sampling.policies if not each.shadow]
    if not acting:
        return
    everywhere = [each for each in acting if settled(each.statement)]
    if any(each.keep is None for each in everywhere) and sampling.combine != "first":
        name, remedy = next((each.name, _narrower(each)) for each in everywhere if each.keep is None)
        yield "sampling.policies", f"every trace is dropped, because {name} drops all of them; {remedy}"
    elif any(each.keep == 1 for each in everywhere) and sampling.combine != "first":
        name, remedy = next((each.name, _narrower(each)) for each in everywhere if each.keep == 1)
        yield "sampling.policies", f"every trace is kept, so nothing is sampled: {name} keeps all; {remedy}"
    elif not everywhere and not sampling.default_sample_rate:
        text = (
            "a trace that no policy matches is dropped, so there is nothing healthy to compare with; add a policy at the end "
            "such as {name: rest, keep: 0.01}"
        )
        yield "sampling.policies", text
    if not sampling.guides and all(not each.keep for each in acting):
        yield "sampling.policies", "no policy keeps anything, so no trace is kept; give one a rate in keep"
