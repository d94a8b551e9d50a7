"""Which traces a force rule fits: each operator by table, and all of it against a naive walk over the spans."""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.core.spans import span_id, trace_id, whole
from tss.core.force import Action, Enforcer, Matcher, Op, Rule, Where
from tss.core.force.document import MAX_PATTERN, draft
from tss.core.force.errors import WrongRule

Attributes = Mapping[str, Any]
NAMES = ("get", "post")
MANY = 300


def any_value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=map(any_value, value)))
    return AnyValue(bytes_value=value)


def pairs(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def span(number: int, attributes: Attributes, name: str = "get", kind: int = 2, status: int = 0) -> Span:
    return Span(
        trace_id=trace_id(1),
        span_id=span_id(number),
        name=name,
        kind=kind,  # type: ignore[arg-type]
        status=Status(code=status),  # type: ignore[arg-type]
        attributes=pairs(attributes),
    )


def payload(*parts: tuple[Attributes, list[Span]]) -> bytes:
    """Resources with their spans."""
    return TracesData(
        resource_spans=[
            ResourceSpans(resource=Resource(attributes=pairs(resource)), scope_spans=[ScopeSpans(spans=spans)])
            for resource, spans in parts
        ]
    ).SerializeToString()


def rule(*matchers: Matcher, **more: Any) -> Rule:
    values: dict[str, Any] = {"id": "1", "name": "one", "action": Action.KEEP, "created": 0.0, "expires": 10.0} | more
    return Rule(matchers=matchers, **values)


def fits(message: bytes, *matchers: Matcher) -> bool:
    return Enforcer([rule(*matchers)]).rule_of(whole(message)) is not None


MISSING = object()
TABLE = [
    # op, wanted, what the span has, whether it fits
    (Op.EQ, "a", "a", True),
    (Op.EQ, "a", "A", False),
    (Op.EQ, "a", "ab", False),
    (Op.EQ, "", "", True),
    (Op.EQ, "", MISSING, False),
    (Op.EQ, 500, 500, True),
    (Op.EQ, 500, "500", True),
    (Op.EQ, "500", 500, True),
    (Op.EQ, 500, 500.0, True),
    (Op.EQ, 0.5, 0.5, True),
    (Op.EQ, True, True, True),
    (Op.EQ, "true", True, True),
    (Op.EQ, True, 1, False),
    (Op.EQ, 2**53 + 1, 2**53, False),
    (Op.EQ, "", ["a"], False),
    (Op.EQ, "a", b"a", False),
    (Op.NEQ, "a", "b", True),
    (Op.NEQ, "a", "a", False),
    (Op.NEQ, "a", MISSING, True),
    (Op.NEQ, "a", ["a"], True),
    (Op.NEQ, 500, "500", False),
    (Op.CONTAINS, "b", "abc", True),
    (Op.CONTAINS, "d", "abc", False),
    (Op.CONTAINS, 0, 500, True),
    (Op.CONTAINS, "a", MISSING, False),
    (Op.CONTAINS, "", ["a"], False),
    (Op.STARTS_WITH, "a", "ab", True),
    (Op.STARTS_WITH, "b", "ab", False),
    (Op.ENDS_WITH, "b", "ab", True),
    (Op.ENDS_WITH, "a", "ab", False),
    (Op.REGEX, "b+c", "abbc", True),
    (Op.REGEX, "^b", "ab", False),
    (Op.REGEX, "^5..$", 503, True),
    (Op.REGEX, ".*", ["a"], False),
    (Op.REGEX, ".*", MISSING, False),
    (Op.REGEX, "^\u00e4$", "\u00e4", True),
    (Op.IN, ("a", 7), "a", True),
    (Op.IN, ("a", 7), "7", True),
    (Op.IN, ("a", 7), "b", False),
    (Op.IN, ("a", 7), MISSING, False),
    (Op.EXISTS, True, "", True),
    (Op.EXISTS, True, ["a"], True),
    (Op.EXISTS, True, MISSING, False),
    (Op.EXISTS, False, MISSING, True),
    (Op.EXISTS, False, 0, False),
    (Op.GT, 5, 6, True),
    (Op.GT, 5, 5, False),
    (Op.GT, 5, "5.5", True),
    (Op.GT, 5, "6e0", True),
    (Op.GT, 5, "six", False),
    (Op.GT, 5, "\u0667", False),  # a digit, in another script
    (Op.GT, 0, "9" * 5000, False),  # no measurement
    (Op.GT, 0, True, False),
    (Op.GT, 0, MISSING, False),
    (Op.GT, 2**53, 2**53 + 1, True),
    (Op.GT, 0, float("nan"), False),
    (Op.GT, 0, float("inf"), True),
    (Op.GTE, 5, 5, True),
    (Op.GTE, 5, 4.99, False),
    (Op.LT, 5, 4, True),
    (Op.LT, 5, 5, False),
    (Op.LT, 5, "-1", True),
    (Op.LTE, 5, 5.0, True),
    (Op.LTE, 5, 6, False),
]


@pytest.mark.parametrize(("op", "wanted", "has", "expected"), TABLE)
@pytest.mark.parametrize("where", [Where.SPAN, Where.RESOURCE])
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with another"])
def test_each_operator(where: Where, op: Op, wanted: Any, has: Any, expected: bool, alone: bool) -> None:
    attributes = {} if has is MISSING else {"key": has}
    message = payload(
        (attributes if where is Where.RESOURCE else {}, [span(1, {} if where is Where.RESOURCE else attributes)])
    )
    others = [] if alone else [Matcher(Where.NAME, "", Op.EQ, "get")]
    assert fits(message, Matcher(where, "key", op, wanted), *others) is expected


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        (Matcher(Where.NAME, "", Op.STARTS_WITH, "po"), True),
        (Matcher(Where.NAME, "", Op.EQ, "get"), False),
        (Matcher(Where.KIND, "", Op.EQ, "client"), True),
        (Matcher(Where.KIND, "", Op.IN, ("server", "consumer")), False),
        (Matcher(Where.STATUS, "", Op.EQ, "error"), True),
        (Matcher(Where.STATUS, "", Op.NEQ, "error"), False),
    ],
)
def test_name_kind_and_status(matcher: Matcher, expected: bool) -> None:
    message = payload(({}, [span(1, {}, name="post", kind=3, status=2)]))
    assert fits(message, matcher) is expected


def test_all_matchers_hold_on_one_and_the_same_span() -> None:
    route = Matcher(Where.SPAN, "route", Op.EQ, "/pay")
    slow = Matcher(Where.SPAN, "code", Op.GTE, 500)
    shop = Matcher(Where.RESOURCE, "service.name", Op.EQ, "shop")
    apart = payload(({"service.name": "shop"}, [span(1, {"route": "/pay", "code": 200}), span(2, {"code": 500})]))
    elsewhere = payload(({"service.name": "shop"}, [span(1, {})]), ({}, [span(2, {"route": "/pay", "code": 500})]))
    together = payload(({}, [span(1, {})]), ({"service.name": "shop"}, [span(2, {"route": "/pay", "code": 500})]))
    assert not fits(apart, route, slow)
    assert not fits(elsewhere, route, slow, shop)
    assert fits(together, route, slow, shop)


@pytest.mark.parametrize("others", [[], [Matcher(Where.NAME, "", Op.EQ, "get")]])
def test_no_number_of_values_is_too_many(others: list[Matcher]) -> None:
    spans = [span(number, {"user": number}) for number in range(MANY)]
    last = Matcher(Where.SPAN, "user", Op.EQ, MANY - 1)
    assert fits(payload(({}, spans)), last, *others)
    assert not fits(payload(({}, spans)), Matcher(Where.SPAN, "user", Op.EQ, -1), *others)


def test_chunks_one_after_the_other_are_one_trace() -> None:
    one, other = payload(({}, [span(1, {"a": 1})])), payload(({}, [span(2, {"a": 2})]))
    assert fits(one + other, Matcher(Where.SPAN, "a", Op.EQ, 2), Matcher(Where.NAME, "", Op.EXISTS, True))
    assert not fits(b"", Matcher(Where.SPAN, "a", Op.NEQ, 2))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(.*a){12}$", "a?" * 20 + "a" * 20 + "$"])
def test_no_expression_takes_long(pattern: str) -> None:
    """Python's own takes years for the first."""
    matcher = Matcher(Where.SPAN, "key", Op.REGEX, pattern)
    message = payload(({}, [span(1, {"key": "a" * 20_000 + "b"})]))
    enforcer = Enforcer([rule(matcher)])
    began = time.process_time()
    enforcer.rule_of(whole(message))
    assert time.process_time() - began < 1


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a" * (MAX_PATTERN + 1), "a{2000}", "\ud800", "", 5])
def test_what_is_no_expression_is_refused(pattern: object) -> None:
    with pytest.raises(WrongRule) as refused:
        draft({"name": "a", "action": "keep", "matchers": [{"on": "name", "op": "regex", "value": pattern}]})
    assert [*refused.value.fields] == ["matchers[0].value"]


# -- against a walk over the spans that knows nothing of scanning ahead

VALUES = st.one_of(
    st.sampled_from(["", "a", "ab", "5", "5.0", "-1", "true", "1e3"]),
    st.integers(-2, 6),
    st.sampled_from([0.5, 5.0, -0.0, float("inf"), float("nan")]),
    st.booleans(),
    st.just(["a"]),
    st.just(b"a"),
)
KEYS = st.sampled_from(["x", "y"])
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=2)
SPANS = st.builds(
    lambda attributes, name, kind, status: span(1, attributes, name, kind, status),
    ATTRIBUTES, st.sampled_from(NAMES), st.integers(0, 5), st.integers(0, 2),
)  # fmt: skip
MESSAGES = st.lists(st.tuples(ATTRIBUTES, st.lists(SPANS, min_size=1, max_size=3)), min_size=1, max_size=3)
SCALARS = st.one_of(st.sampled_from(["a", "b", "5", "true", ""]), st.integers(-2, 6), st.just(0.5), st.booleans())


@st.composite
def matchers(draw: st.DrawFn) -> Matcher:
    where = draw(st.sampled_from(Where))
    key = draw(KEYS) if where in (Where.SPAN, Where.RESOURCE) else ""
    op = draw(st.sampled_from(Op))
    value: Any
    match op:
        case Op.EXISTS:
            value = draw(st.booleans())
        case Op.IN:
            value = tuple(draw(st.lists(SCALARS, min_size=1, max_size=2)))
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            value = draw(st.one_of(st.integers(-2, 6), st.just(0.5)))
        case Op.REGEX:
            value = draw(st.sampled_from(["a", "^5", "e$", "."]))
        case _:
            value = draw(SCALARS)
    return Matcher(where, key, op, value)


def said(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def counted(value: Any) -> float | None:
    if isinstance(value, bool | bytes | list):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def naive(matcher: Matcher, resource: Attributes, attributes: Attributes, one: Span) -> bool:
    words = {
        Where.NAME: lambda: one.name,
        Where.KIND: lambda: ["unspecified", "internal", "server", "client", "producer", "consumer"][one.kind],
        Where.STATUS: lambda: ["unset", "ok", "error"][one.status.code],
        Where.RESOURCE: lambda: resource.get(matcher.key),
        Where.SPAN: lambda: attributes.get(matcher.key),
    }
    value, wanted = words[matcher.where](), matcher.value
    there = said(value)
    match matcher.op:
        case Op.EXISTS:
            return (value is not None) == wanted
        case Op.NEQ:
            return there is None or there != said(wanted)
        case Op.EQ:
            return there is not None and there == said(wanted)
        case Op.IN:
            return there is not None and there in [said(each) for each in wanted]  # type: ignore[union-attr]
        case Op.GT | Op.GTE | Op.LT | Op.LTE:
            found = None if value is None else counted(value)
            compare = {Op.GT: operator.gt, Op.GTE: operator.ge, Op.LT: operator.lt, Op.LTE: operator.le}[matcher.op]
            return found is not None and compare(found, wanted)
    text = said(wanted) or ""
    looks = {
        Op.CONTAINS: lambda found: text in found,
        Op.STARTS_WITH: lambda found: found[: len(text)] == text,
        Op.ENDS_WITH: lambda found: not text or found[-len(text) :] == text,
        Op.REGEX: lambda found: re.search(text, found) is not None,
    }
    return there is not None and looks[matcher.op](there)


def plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


@given(MESSAGES, st.lists(st.lists(matchers(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_the_first_rule_that_a_naive_walk_finds(message: Any, rules: list[list[Matcher]]) -> None:
    book = [rule(*each, id=str(place), created=float(place)) for place, each in enumerate(rules)]
    walked = [
        each
        for each in book
        if any(
            all(naive(matcher, resource, plain_of(one), one) for matcher in each.matchers)
            for resource, spans in message
            for one in spans
        )
    ]
    assert Enforcer(book).rule_of(whole(payload(*message))) == (walked[0] if walked else None)


def plain_of(one: Span) -> dict[str, Any]:
    found = plain(one.attributes)
    return {key: ["a"] if isinstance(value, ArrayValue) else value for key, value in found.items()}
