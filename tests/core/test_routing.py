"""Where a kept trace goes is decided once, with its verdict."""

from __future__ import annotations

from time import process_time

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, TracesData

from tests.core.spans import lone, message, scanned, span, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Reason
from tss.core.memory import Memory
from tss.core.otlp import Encoding, Scanner
from tss.core.partition import Partition
from tss.core.policies.errors import Errors
from tss.core.policies.rest import Rest
from tss.core.routing import ALL, Match, Router
from tss.core.trace import Trace

KEEP_ALL = (Errors(1.0), Rest(1.0, "default"))


def payload(service: str = "cart", *, error: bool = False, **attributes: AnyValue) -> bytes:
    one = span(1, 0, error=error)
    one.attributes.extend(KeyValue(key=key.replace("_", "."), value=value) for key, value in attributes.items())
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=service))])
    group = ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=[one])])
    return TracesData(resource_spans=[group]).SerializeToString()


def destinations(matches: dict[str, Match], *payloads: bytes) -> tuple[str, ...] | None:
    sampler = Sampler(KEEP_ALL, Router(matches))
    scanner = Scanner(sampler.program)
    made = Trace(trace_id(1), Partition(0, 0, 0), 0)
    for each in payloads:
        (found,) = scanner.fragments(each, Encoding.OTLP_PROTO, [])
        made.absorb(lone(found), 0, sampler.program)
    made.reason = Reason.ROOT_QUIET
    return sampler.decide(made).destinations


@pytest.mark.parametrize(
    ("match", "taken"),
    [
        (Match(), True),
        (Match(policies=("errors",)), True),
        (Match(policies=("latency", "errors")), True),
        (Match(policies=("latency",)), False),
        (Match(attributes={"service.name": ("cart",)}), True),
        (Match(attributes={"service.name": ("shop", "c*t")}), True),
        (Match(attributes={"service.name": ("car",)}), False),
        (Match(attributes={"service.name": ("ca[r]t",)}), False),  # brackets mean themselves
        (Match(attributes={"http.status": ("50?",)}), True),
        (Match(attributes={"is.test": ("true",)}), True),
        (Match(attributes={"is.test": ("1",)}), False),
        (Match(attributes={"load": ("0.5",)}), True),
        (Match(attributes={"size": ("1500000",)}), True),
        (Match(attributes={"share": ("0.12345678",)}), True),
        (Match(attributes={"absent": ("*",)}), False),
        (Match(policies=("errors",), attributes={"service.name": ("cart",), "http.status": ("503",)}), True),
        (Match(policies=("errors",), attributes={"service.name": ("cart",), "http.status": ("200",)}), False),
    ],
)
def test_a_match_takes_what_fits_all_of_it(match: Match, taken: bool) -> None:
    value = payload(
        error=True,
        http_status=AnyValue(int_value=503),
        is_test=AnyValue(bool_value=True),
        load=AnyValue(double_value=0.5),
        size=AnyValue(double_value=1_500_000),
        share=AnyValue(double_value=0.12345678),
    )
    assert destinations({"other": Match(policies=("none",)), "it": match}, value) == (("it",) if taken else ())


def test_a_match_sees_the_whole_trace() -> None:
    match = Match(attributes={"tier": ("gold",), "service.name": ("shop",)})
    values = payload("shop"), payload("cart", tier=AnyValue(string_value="gold"))
    assert destinations({"it": match}, *values) == ("it",)
    assert destinations({"it": match}, values[0]) == ()


def test_without_a_match_nothing_is_looked_up_and_all_get_all() -> None:
    router = Router({"one": Match(), "two": Match()})
    assert router.asks == ()
    assert destinations({"one": Match(), "two": Match()}, payload()) is ALL


def test_law_2_a_late_span_goes_where_its_trace_went() -> None:
    """Alone it would have gone elsewhere: it lacks the attribute."""
    sampler = Sampler(KEEP_ALL, Router({"gold": Match(attributes={"tier": ("gold",)}), "rest": Match()}))
    buffer = Buffer(
        Limits(1 << 20, 1000, 1000, 1000), Waits(30_000, 600_000, 10_800_000), Memory(), program=sampler.program
    )
    home, scanner = Partition(0, 0, 300_000), Scanner(sampler.program)

    def add(offset: int, at_ms: int, value: bytes) -> None:
        buffer.add(home, scanned(scanner, value, offset, at_ms), 10**12)

    add(0, 1_000, payload(tier=AnyValue(string_value="gold")))
    add(1, 60_000, message([span(2, 0)]))
    (whole,) = buffer.take()
    buffer.decided(whole, sampler.decide(whole))
    add(2, 61_000, payload())
    (late,) = [trace for trace in buffer.take() if trace.late]
    assert whole.decision is not None
    assert whole.decision.destinations == ("gold", "rest")
    assert late.decision == whole.decision


def test_law_4_a_glob_takes_time_by_the_length_of_the_value_alone() -> None:
    """Python's `re` gives each star another turn at the whole text."""
    attempts = Match(attributes={"service.name": ("*a*b",)})

    def secs(size: int) -> float:
        rounds = []
        for _ in range(5):
            began = process_time()
            assert destinations({"only": attempts}, payload("a" * size)) == ()
            rounds.append(process_time() - began)
        return min(rounds)

    assert secs(10_000) < 40 * secs(1000) + 0.01
