"""Traces of a shop whose cart asks its database once for each item, and the truth about each of them.

Unlike `demo.traffic` they have what destinations differ in: runs of alike queries, spans that come twice, a tenant.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

import attrs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tests.contracts.source import Sent
from tests.core.test_datadog import pairs

DEFAULT_RATE = 0.25
SLOW_MS = 1000
PARTITIONS = 2
MIN_RUN = 3  # spanCompression.minCompressionCount
SAMPLING = {"latencyThresholdMs": SLOW_MS, "latencySampleRate": 1.0, "defaultSampleRate": DEFAULT_RATE}
_INTERNAL, _SERVER, _CLIENT = 1, 2, 3
_KINDS = {_SERVER: "server", _CLIENT: "client"}


@attrs.frozen
class Found:
    """A span as it is at a destination; for how many it stands."""

    trace_id: bytes
    span_id: bytes
    count: int = 1


@attrs.frozen
class Order:
    """One trace. ``policy`` is the one that keeps it; empty where none does."""

    trace_id: bytes
    policy: str
    tenant: str
    spans: Sequence[tuple[str, Span]]  # with their services, each once
    repeated: Sequence[tuple[str, Span]]  # those of them that come once more
    queries: frozenset[bytes]

    def sent(self, timestamp_ms: int | None = None) -> list[Sent]:
        """A record for each service, and one for what is repeated."""
        shop = [each for each in self.spans if each[0] == "shop"]
        cart = [each for each in self.spans if each[0] == "cart"]
        values = [_message(group) for group in (shop, cart, self.repeated) if group]
        key, place = self.trace_id.hex().encode(), self.trace_id[0] % PARTITIONS
        return [Sent(value, place, timestamp_ms, key) for value in values]

    def check(self, found: Iterable[Found], where: str, *, compressed: bool) -> None:
        """Each span, or the composite that stands for it; as often as they like if all are alike."""
        here = set(found)
        ids = {span.span_id for _, span in self.spans}
        assert {each.span_id for each in here} <= ids, f"{where}: spans that nobody sent"
        assert len({each.span_id for each in here}) == len(here), f"{where}: a span with two counts"
        assert sum(each.count for each in here) == len(ids), f"{where}: {self.trace_id.hex()} {here}"
        assert ids - self.queries <= {each.span_id for each in here if each.count == 1}, f"{where}: a span is missing"
        runs = [each.count for each in here if each.span_id in self.queries]
        many = len(self.queries)
        assert runs == ([many] if compressed and many >= MIN_RUN else [1] * many), f"{where}: {runs}"


def orders(seed: int) -> Iterator[Order]:
    """Without an end."""
    rng = Random(seed)
    while True:
        yield _order(rng)


def _order(rng: Random) -> Order:
    trace_id = rng.randbytes(16)
    slow, failed, tenant = rng.random() < 0.1, rng.random() < 0.1, rng.choice(("gold", "silver", "lead"))
    began = time.time_ns() - 8 * 10**9
    at, ends = iter(range(began, began + 10**9, 10**6)), began + (1500 if slow else 200) * 10**6

    def span(name: str, kind: int, parent: bytes, end_ns: int, **attributes: Any) -> Span:
        return Span(
            trace_id=trace_id, span_id=rng.randbytes(8), parent_span_id=parent, name=name, kind=kind,  # type: ignore[arg-type]
            start_time_unix_nano=next(at), end_time_unix_nano=end_ns,
            attributes=pairs({name.replace("_", "."): value for name, value in attributes.items()}),
        )  # fmt: skip

    root = span("GET /orders", _SERVER, b"", ends, tenant=tenant, http_route="/orders")
    call = span("cart.Get", _CLIENT, root.span_id, ends - 1000)
    cart = span("cart.Get", _SERVER, call.span_id, ends - 2000)
    if failed:
        cart.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="no such cart"))
    render = span("render", _INTERNAL, cart.span_id, ends - 3000)
    queries = [
        span("SELECT items", _CLIENT, cart.span_id, began + 10**8 + number * 1000,
             db_system="postgresql", db_statement=f"SELECT * FROM items WHERE id = {rng.randrange(10**6)}")
        for number in range(rng.choice((1, 2, 3, 12, 40)))
    ]  # fmt: skip
    spans = [("shop", root), ("shop", call), *(("cart", each) for each in (cart, render, *queries))]
    repeated = rng.sample(spans, 3) if rng.random() < 0.3 else []
    policy = _policy(trace_id, slow=slow, failed=failed)
    return Order(trace_id, policy, tenant, spans, repeated, frozenset(each.span_id for each in queries))


def _policy(trace_id: bytes, *, slow: bool, failed: bool) -> str:
    """By SAMPLING; R is the last 56 bits of the trace id (W3C Trace Context level 2), T is (1 - rate) * 2^56 (OTEP 235)."""
    if failed or slow:
        return "errors" if failed else "latency"
    return "default" if int.from_bytes(trace_id[9:], "big") >= (1 - DEFAULT_RATE) * 2**56 else ""


def _message(spans: Iterable[tuple[str, Span]]) -> bytes:
    groups = defaultdict(list)
    for service, span in spans:
        groups[service].append(span)
    made = [
        ResourceSpans(
            resource=Resource(attributes=pairs({"service.name": service})), scope_spans=[ScopeSpans(spans=each)]
        )
        for service, each in groups.items()
    ]
    return TracesData(resource_spans=made).SerializeToString()


def check(
    where: str, expected: Iterable[Order], found: Iterable[Found], *, once: bool = True, compressed: bool = True
) -> None:
    """Just these traces are there, whole; with ``once`` nothing is there twice."""
    by_trace: dict[bytes, list[Found]] = defaultdict(list)
    for each in found:
        by_trace[each.trace_id].append(each)
    wanted = {order.trace_id: order for order in expected}
    assert wanted, f"{where}: a test that expects nothing"
    assert not wanted.keys() - by_trace.keys(), f"{where}: {len(wanted.keys() - by_trace.keys())} traces lost"
    assert not by_trace.keys() - wanted.keys(), f"{where}: {len(by_trace.keys() - wanted.keys())} that it must not have"
    for trace_id, order in wanted.items():
        here = by_trace[trace_id]
        assert not once or len(set(here)) == len(here), f"{where}: {trace_id.hex()} has spans twice"
        order.check(here, where, compressed=compressed)


def statistics(all_of_them: Iterable[Order]) -> dict[tuple[str, str], list[int]]:
    """Hits, errors, top-level hits and ns by service and kind, as Datadog counts: each span once, whose parent is of
    another service, or whose kind says that it speaks to one."""
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for order in all_of_them:
        services = {span.span_id: service for service, span in order.spans}
        for service, span in order.spans:
            top = services.get(span.parent_span_id) != service
            if top or span.kind in _KINDS:
                counts = found[service, _KINDS[span.kind]]
                more = (1, span.status.code == 2, top, span.end_time_unix_nano - span.start_time_unix_nano)
                counts[:] = [count + one for count, one in zip(counts, more, strict=True)]
    return dict(found)


def calls(all_of_them: Iterable[Order]) -> Counter[tuple[str, str, str, str]]:
    """Spans by service, name, kind and status as they came: what comes twice is two calls, as with the Collector."""
    return Counter(
        (service, span.name, f"SPAN_KIND_{Span.SpanKind.Name(span.kind).removeprefix('SPAN_KIND_')}",
         Status.StatusCode.Name(span.status.code))
        for order in all_of_them
        for service, span in (*order.spans, *order.repeated)
    )  # fmt: skip
