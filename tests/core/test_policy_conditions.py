"""What the policies' conditions mean, told by an independent reading of whole traces, however they are cut into records."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.core.spans import lone, span_id, trace_id
from tss.core.combining import Sampler
from tss.core.conditions.formula import FALSE
from tss.core.conditions.of_trace import statement
from tss.core.conditions.program import Program
from tss.core.conditions.statement import asks
from tss.core.decision import Reason
from tss.core.otlp import Encoding, Scanner
from tss.core.partition import Partition
from tss.core.policies.matching import Matching
from tss.core.policies.policy import ABSTAIN, DROP, FAILED
from tss.core.trace import Trace
from tss.settings.kinds.conditions import read_when

Value = str | bool | int | float

SERVICES = ("checkout", "payment", "batch")
ROUTES = ("/pay", "/pay/card", "/healthz")
TENANTS: tuple[Value, ...] = ("acme", "5", 5, 5.0, True, 7, "> 5")
STATUSES = {"unset": 0, "ok": 1, "error": 2}


@attrs.frozen
class One:
    """A span as the tests see it. `start_ms` and `ms` are milliseconds; without a parent it is a root."""

    name: str
    status: str
    service: str
    route: str | None
    tenant: Value | None  # of the span
    shared: Value | None  # the same key, of the resource
    start_ms: int
    ms: int
    parent: int | None


SPANS = st.builds(
    One,
    name=st.sampled_from(["a", "b"]),
    status=st.sampled_from([*STATUSES]),
    service=st.sampled_from(SERVICES),
    route=st.none() | st.sampled_from(ROUTES),
    tenant=st.none() | st.sampled_from(TENANTS),
    shared=st.none() | st.sampled_from(TENANTS),
    start_ms=st.integers(1, 5),
    ms=st.integers(0, 5),
    parent=st.none() | st.integers(0, 3),
)
TRACES = st.lists(SPANS, min_size=1, max_size=6)


def _any_value(value: Value) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
    return AnyValue(string_value=value)


def _attributes(found: dict[str, Value | None]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in found.items() if value is not None]


def as_otlp(number: int, one: One) -> ResourceSpans:
    made = Span(
        trace_id=trace_id(1),
        span_id=span_id(number),
        parent_span_id=b"" if one.parent is None else span_id(one.parent),
        name=one.name,
        start_time_unix_nano=one.start_ms * 1_000_000,
        end_time_unix_nano=(one.start_ms + one.ms) * 1_000_000,
        status=Status(code=STATUSES[one.status]),  # type: ignore[arg-type]
        attributes=_attributes({"http.route": one.route, "tenant": one.tenant}),
    )
    found = ResourceSpans(scope_spans=[ScopeSpans(spans=[made])])
    found.resource.attributes.extend(_attributes({"service.name": one.service, "tenant": one.shared}))
    return found


def as_trace(spans: Sequence[One], program: Program, chance: Random) -> Trace:
    """The closed trace, its spans in records of one to three."""
    made, scanner, at = Trace(trace_id(1), Partition(0, 0, 0), 0), Scanner(program), 0
    while at < len(spans):
        size = chance.randint(1, 3)
        record = TracesData(
            resource_spans=[as_otlp(at + place, one) for place, one in enumerate(spans[at : at + size])]
        )
        for fragment in scanner.fragments(record.SerializeToString(), Encoding.OTLP_PROTO, []):
            made.absorb(lone(fragment), 0, program)
        at += size
    made.reason = Reason.ROOT_QUIET
    return made


def fits(when: object, spans: Sequence[One], chance: Random) -> bool:
    """Whether a policy with this condition votes on the trace."""
    policy = Matching("it", DROP, read_when(when).statement)
    sampler = Sampler([policy])
    return policy.vote(as_trace(spans, sampler.program, chance)) not in (ABSTAIN, FAILED)


# ---- an independent reading


def expected(when: dict[str, Any], spans: Sequence[One]) -> bool:
    """Whether a mapping of short forms fits a trace."""
    of_span: dict[str, Any] = {key: when[key] for key in ("status", "service", "route", "attribute") if key in when}
    lasts_ms = max(each.start_ms + each.ms for each in spans) - min(each.start_ms for each in spans)
    return (
        (not of_span or any(_span_fits(of_span, each) for each in spans))
        and _inside(when.get("latency", ""), lasts_ms)
        and _inside(when.get("spans", ""), len(spans))
        and ("any" not in when or any(expected(each, spans) for each in when["any"]))
        and all(expected(each, spans) for each in when.get("all", []))
        and ("not" not in when or not expected(when["not"], spans))
    )


def _span_fits(when: dict[str, Any], one: One) -> bool:
    return all(
        (
            key == "status" and _is_one_of(one.status, value),
            key == "service" and _is_one_of(one.service, value),
            key == "route" and _is_one_of(one.route, value),
            key == "attribute" and any(_is_one_of(each, value["tenant"]) for each in (one.tenant, one.shared)),
        ).count(True)
        for key, value in when.items()
    )


def _is_one_of(value: Value | None, wanted: object) -> bool:
    return any(_is(value, each) for each in (wanted if isinstance(wanted, list) else [wanted]))


def _is(value: Value | None, wanted: object) -> bool:
    if value is None:
        return False
    if isinstance(wanted, str) and wanted[0] in "<>":
        return not isinstance(value, str | bool) and _inside(wanted, value)
    if isinstance(wanted, str) and ("*" in wanted or "?" in wanted):
        as_text = {True: "true", 5.0: "5", 7: "7"}.get(value, value) if not isinstance(value, str) else value
        return fnmatchcase(str(as_text), wanted)
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _inside(bounds: str, number: float) -> bool:
    operators = {">": number.__gt__, ">=": number.__ge__, "<": number.__lt__, "<=": number.__le__}
    for each in filter(None, bounds.split(",")):
        operator, amount = each.split()
        if operators[operator](type(number)(int(amount.removesuffix("ms")))) is not True:
            return False
    return True


def one_or_list(values: Sequence[object]) -> st.SearchStrategy[object]:
    one = st.sampled_from(values)
    return one | st.lists(one, min_size=1, max_size=3)


BOUNDS = ("> 0", ">= 0", "> 3", ">= 3", "< 4", "<= 4", "> 1, < 4", ">= 2, <= 5", "<= 0")
FORMS: dict[str, st.SearchStrategy[Any]] = {
    "status": one_or_list([*STATUSES]),
    "service": one_or_list([*SERVICES, "pay*", "?atch", "*", "none"]),
    "route": one_or_list([*ROUTES, "/pay*", "/pay/*", "/h?althz"]),
    "attribute": st.fixed_dictionaries({"tenant": one_or_list([*TENANTS[:-1], "> 5", ">= 5, < 6", "a*", "?", "tr*"])}),
    "latency": st.sampled_from([", ".join(f"{each}ms" for each in bounds.split(", ")) for bounds in BOUNDS]),
    "spans": st.sampled_from(BOUNDS),
}
PLAIN = st.fixed_dictionaries({}, optional=FORMS).filter(bool)
WHENS = st.recursive(
    PLAIN,
    lambda inner: st.fixed_dictionaries(
        {},
        optional=FORMS
        | {
            "any": st.lists(inner, min_size=1, max_size=3),
            "all": st.lists(inner, min_size=1, max_size=3),
            "not": inner,
        },
    ).filter(bool),
    max_leaves=5,
)


@given(WHENS, TRACES, st.randoms(use_true_random=False))
def test_short_forms_mean_what_their_page_says(when: dict[str, Any], spans: list[One], chance: Random) -> None:
    assert fits(when, spans, chance) == expected(when, spans)


# ---- short forms and OTTL


OTTL: dict[str, Any] = {
    "status": lambda value: f"status.code == STATUS_CODE_{value.upper()}",
    "service": lambda value: _text('resource.attributes["service.name"]', value),
    "route": lambda value: _text('attributes["http.route"]', value),
    "tenant": lambda value: f"({_value('attributes', value)} or {_value('resource.attributes', value)})",
    "latency": lambda value: " and ".join(f"trace.duration_ms {each.removesuffix('ms')}" for each in value.split(", ")),
    "spans": lambda value: " and ".join(f"trace.spans {each}" for each in value.split(", ")),
}


def _text(path: str, value: str) -> str:
    if "*" in value or "?" in value:
        pattern = value.replace("*", ".*").replace("?", ".")
        return f'IsMatch({path}, "^{pattern}$")'
    return f'{path} == "{value}"'


def _value(place: str, value: Value) -> str:
    path = f'{place}["tenant"]'
    if isinstance(value, str) and value[0] in "<>":
        return f"({' and '.join(f'{path} {each}' for each in value.split(', '))})"
    if isinstance(value, str):
        return _text(path, value)
    return f"{path} == {str(value).lower()}"


def ottl_of(when: dict[str, Any]) -> str:
    """The condition that says the same as a mapping without any, all and not."""
    told = []
    for key, values in ({**when, **when.get("attribute", {})}).items():
        if key != "attribute":
            each = [OTTL[key](value) for value in (values if isinstance(values, list) else [values])]
            told.append(f"({' or '.join(each)})")
    return " and ".join(told)


@given(PLAIN, TRACES, st.randoms(use_true_random=False))
def test_every_short_form_is_its_ottl(when: dict[str, Any], spans: list[One], chance: Random) -> None:
    assert fits(when, spans, chance) == fits(ottl_of(when), spans, chance)


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_and_each_alone_asks_the_scanner_the_same(form: str, data: st.DataObject) -> None:
    when = {form: data.draw(FORMS[form])}
    of_form, of_text = (list(asks(read_when(each).statement)) for each in (when, ottl_of(when)))
    assert len(of_form) == len(of_text) == (form not in ("latency", "spans"))


# ---- conditions that join spans, the root and the trace


ATOMS: dict[str, Any] = {
    'name == "a"': lambda one, root, spans: one.name == "a",
    'resource.attributes["service.name"] == "checkout"': lambda one, root, spans: one.service == "checkout",
    "status.code == 2": lambda one, root, spans: one.status == "error",
    'attributes["http.route"] != "/pay"': lambda one, root, spans: one.route != "/pay",
    'root.name == "a"': lambda one, root, spans: root is not None and root.name == "a",
    "root.status.code != 2": lambda one, root, spans: root is None or root.status != "error",
    'root.resource.attributes["service.name"] == "batch"': lambda one, root, spans: (
        root is not None and root.service == "batch"
    ),
    "trace.spans > 2": lambda one, root, spans: len(spans) > 2,
    "trace.errors == 1": lambda one, root, spans: [each.status for each in spans].count("error") == 1,
    "trace.duration_ms >= 4": lambda one, root, spans: _lasts_ms(spans) >= 4,
    "trace.spans * 2 - trace.errors > 5": lambda one, root, spans: (
        2 * len(spans) - [each.status for each in spans].count("error") > 5
    ),
    "true": lambda one, root, spans: True,
}


def _lasts_ms(spans: Sequence[One]) -> int:
    return max(each.start_ms + each.ms for each in spans) - min(each.start_ms for each in spans)


def root_of(spans: Sequence[One]) -> One | None:
    roots = [(each.start_ms, number, each) for number, each in enumerate(spans) if each.parent is None]
    return min(roots, key=lambda root: root[:2])[2] if roots else None


Tree = str | tuple[str, Any]
TREES = st.recursive(
    st.sampled_from([*ATOMS]),
    lambda inner: (
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3))
        | st.tuples(st.just("not"), inner)
    ),
    max_leaves=6,
)


def written(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    operator, of = tree
    return f"not ({written(of)})" if operator == "not" else f"({f' {operator} '.join(map(written, of))})"


def holds(tree: Any, one: One, root: One | None, spans: Sequence[One]) -> bool:
    if isinstance(tree, str):
        return bool(ATOMS[tree](one, root, spans))
    operator, of = tree
    if operator == "not":
        return not holds(of, one, root, spans)
    return (all if operator == "and" else any)(holds(each, one, root, spans) for each in of)


@given(TREES, TRACES, st.randoms(use_true_random=False))
def test_one_span_makes_a_condition_true_and_the_rest_is_of_the_whole_trace(
    tree: Any, spans: list[One], chance: Random
) -> None:
    root = root_of(spans)
    assert fits(written(tree), spans, chance) == any(holds(tree, one, root, spans) for one in spans)


# ---- errors


@pytest.mark.parametrize(
    ("when", "voted"),
    [
        ("1 / (kind - kind) == 1", False),  # a division by zero in every span
        ("not (1 / (kind - kind) == 1)", False),
        ({"not": "1 / (kind - kind) == 1"}, False),
        ('1 / (kind - kind) == 1 or name == "a"', False),  # OTTL stops at the error
        ('name == "a" or 1 / (kind - kind) == 1', True),
        ("1 / (kind - kind) == 1 or trace.spans == 1", True),  # two parts, and the second holds
        ({"any": ["1 / (kind - kind) == 1", 'name == "a"']}, True),
        ({"all": ["1 / (kind - kind) == 1", 'name == "a"']}, False),
        ("10 / (trace.spans - 1) > 0", False),
        ({"not": "10 / (trace.spans - 1) > 0"}, False),
    ],
)
def test_an_error_counts_as_not_true_and_so_does_its_negation(when: object, voted: bool) -> None:
    one = One("a", "ok", "checkout", None, None, None, 1, 1, None)
    assert fits(when, [one], Random(1)) == voted


def test_nothing_is_asked_of_spans_for_numbers_of_the_trace() -> None:
    policy = Matching("it", 1.0, statement("trace.spans > 3 or trace.duration_ms > 5"))
    assert Sampler([policy]).program.asks == ()
    assert FALSE == 0  # facts that say nothing are false
