"""Twenty policies, each with what it means for a trace, worked out by brute force and without any code of the daemon."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

import attrs
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tss.settings import Sampling
from tss.settings.kinds.policies import policies

SERVICES = ("checkout", "payment", "stock", "batch")
ROUTES = ("/pay", "/pay/card", "/stock/7", "/healthz")
CODES = (200, 404, 500, 503)
SPACE = 2**56


class Told(Protocol):
    """A span and its service, as the oracle knows them."""

    @property
    def wire(self) -> bytes: ...
    @property
    def service(self) -> str: ...


def decorated(span: Span) -> Span:
    """The span with attributes that follow from its id: no chance of the run goes into them."""
    one, other, third = blake2b(span.span_id, digest_size=3).digest()
    span.attributes.extend(
        [
            KeyValue(key="http.route", value=AnyValue(string_value=ROUTES[one % 4])),
            KeyValue(key="http.response.status_code", value=AnyValue(int_value=CODES[other % 4])),
        ]
    )
    if third % 3 == 0:
        span.attributes.append(KeyValue(key="tenant", value=AnyValue(string_value=f"tenant-{third % 7}")))
    return span


def service_of(span: Span) -> str:
    """The service of the resource that a span is sent with."""
    return SERVICES[span.trace_id[0] % 4]


Case = tuple[dict[str, Any], Callable[[Sequence[tuple[Span, str]]], bool]]


def _attribute(span: Span, key: str) -> object:
    for each in span.attributes:
        if each.key == key:
            return each.value.string_value if each.value.HasField("string_value") else each.value.int_value
    return None


def _root(spans: Sequence[tuple[Span, str]]) -> Span | None:
    roots = [span for span, _ in spans if not any(span.parent_span_id)]
    return min(roots, key=lambda span: (span.start_time_unix_nano, span.span_id)) if roots else None


def _ns(spans: Sequence[tuple[Span, str]]) -> int:
    starts = [span.start_time_unix_nano for span, _ in spans]
    return max(span.end_time_unix_nano for span, _ in spans) - min(starts)


def _route(span: Span) -> str:
    return str(_attribute(span, "http.route"))


def _code(span: Span) -> int:
    return int(str(_attribute(span, "http.response.status_code")))


def _errors(spans: Sequence[tuple[Span, str]]) -> int:
    return sum(span.status.code == 2 for span, _ in spans)


_CASES: tuple[Case, ...] = (
    (
        {"name": "probes", "drop": True, "when": 'root.attributes["http.route"] == "/healthz" and trace.spans < 3'},
        lambda spans: (root := _root(spans)) is not None and _route(root) == "/healthz" and len(spans) < 3,
    ),
    (
        {"name": "batch", "drop": True, "when": {"service": "batch", "not": {"status": "error"}}},
        lambda spans: any(service == "batch" for _, service in spans) and not _errors(spans),
    ),
    ({"name": "errors", "keep": 1, "when": {"status": "error"}}, lambda spans: _errors(spans) > 0),
    ({"name": "slow", "keep": 0.5, "when": {"latency": ">= 500ms"}}, lambda spans: _ns(spans) >= 500_000_000),
    (
        {"name": "long", "keep": 0.7, "when": {"latency": "> 100ms, <= 600ms"}},
        lambda spans: 10**8 < _ns(spans) <= 6 * 10**8,
    ),
    ({"name": "large", "keep": 0.9, "when": {"spans": ">= 12"}}, lambda spans: len(spans) >= 12),
    (
        {
            "name": "payment 500",
            "keep": 1,
            "when": {"service": "payment", "attribute": {"http.response.status_code": 500}},
        },
        lambda spans: any(service == "payment" and _code(span) == 500 for span, service in spans),
    ),
    (
        {"name": "5xx", "keep": 0.4, "when": {"attribute": {"http.response.status_code": ">= 500, < 600"}}},
        lambda spans: any(500 <= _code(span) < 600 for span, _ in spans),
    ),
    (
        {"name": "paying", "keep": 0.3, "when": {"route": "/pay*", "attribute": {"tenant": ["tenant-3", "tenant-6"]}}},
        lambda spans: any(
            _route(span).startswith("/pay") and _attribute(span, "tenant") in ("tenant-3", "tenant-6")
            for span, _ in spans
        ),
    ),
    (
        {"name": "card", "keep": 0.2, "when": {"route": "/pay/card"}},
        lambda spans: any(_route(s) == "/pay/card" for s, _ in spans),
    ),
    (
        {"name": "stock", "keep": 0.35, "when": 'IsMatch(attributes["http.route"], "^/stock/[0-9]+$")'},
        lambda spans: any(_route(span) == "/stock/7" for span, _ in spans),
    ),
    (
        {"name": "root pay", "keep": 0.6, "when": 'root.attributes["http.route"] == "/pay"'},
        lambda spans: (root := _root(spans)) is not None and _route(root) == "/pay",
    ),
    (
        {"name": "rootless", "keep": 0.8, "when": "root.name == nil"},
        lambda spans: _root(spans) is None,
    ),
    (
        {
            "name": "mixed",
            "keep": 0.65,
            "when": 'trace.duration_ms > 20 and attributes["http.response.status_code"] == 404',
        },
        lambda spans: _ns(spans) > 20_000_000 and any(_code(span) == 404 for span, _ in spans),
    ),
    (
        {
            "name": "two fields",
            "keep": 0.45,
            "when": 'attributes["http.route"] == "/pay" and end_time - start_time > Duration("5ms")',
        },
        lambda spans: any(
            _route(span) == "/pay" and span.end_time_unix_nano - span.start_time_unix_nano > 5_000_000
            for span, _ in spans
        ),
    ),
    (
        {
            "name": "children",
            "keep": 0.25,
            "when": 'name != "operation 0" and kind == 0 and attributes["tenant"] != nil',
        },
        lambda spans: any(span.name != "operation 0" and _attribute(span, "tenant") is not None for span, _ in spans),
    ),
    (
        {"name": "both", "keep": 0.15, "when": {"all": [{"route": "/pay"}, {"route": "/stock/7"}]}},
        lambda spans: {"/pay", "/stock/7"} <= {_route(span) for span, _ in spans},
    ),
    (
        {"name": "one of", "keep": 0.12, "when": {"any": [{"spans": "< 2"}, {"service": "check*"}]}},
        lambda spans: len(spans) < 2 or any(service == "checkout" for _, service in spans),
    ),
    (
        {"name": "would drop", "drop": True, "mode": "shadow", "when": {"status": "error"}},
        lambda spans: False,
    ),
    ({"name": "rest", "keep": 0.05}, lambda spans: True),
)

TWENTY = Sampling(policies=policies.read([setting for setting, _ in _CASES]))


_MEANS = {setting["name"]: matches for setting, matches in _CASES}


def some(chance: random.Random) -> Sampling:
    """Some of the twenty, with other rates."""
    chosen = [attrs.evolve(each) for each in TWENTY.policies if chance.random() < 0.5]
    others = [each if each.keep is None else attrs.evolve(each, keep=chance.choice([0.1, 0.5, 1.0])) for each in chosen]
    return Sampling(policies=tuple(others)) if others else TWENTY


def keeps(told: Sequence[Told], sampling: Sampling) -> bool:
    """Whether these policies, which are of the twenty, keep a trace with these spans."""
    spans = [(Span.FromString(each.wire), each.service) for each in told]
    matching = [each for each in sampling.policies if _MEANS[each.name](spans)]
    if any(each.keep is None and not each.shadow for each in matching):
        return False
    rate: float = max((each.keep or 0 for each in matching), default=0)
    return int.from_bytes(spans[0][0].trace_id[9:], "big") >= (1 - rate) * SPACE
