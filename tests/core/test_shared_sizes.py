"""What many spans share is read once: counting a record costs time by its bytes, not by shared bytes times spans."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import pytest

from tss.core.formats.apm_stats import Concentrator, SpanObserver
from tss.core.formats.spanmetrics import SpanMetrics, shape_of
from tss.core.otlp.wire import varint_bytes
from tss.settings import SpanMetricsSettings

TRACE_ID = b"\1" * 16
NOW_NS = 1_760_000_000 * 10**9
CLIENT = 3
LARGEST = 900_000  # bytes: a record as large as Kafka takes by default


def field(number: int, content: bytes) -> bytes:
    return varint_bytes(number << 3 | 2) + varint_bytes(len(content)) + content


def text(number: int, key: str, value: str) -> bytes:
    """An attribute in a field of this number."""
    return field(number, field(1, key.encode()) + field(2, field(1, value.encode())))


def span(number: int, parent: int = 0, *, service: bool = False) -> bytes:
    """One of a series of its own, for statistics and for span metrics."""
    body = field(1, TRACE_ID) + field(2, number.to_bytes(8, "big")) + field(5, f"n{number}".encode())
    body += bytes([6 << 3, CLIENT]) + text(9, "http.request.method", f"m{number}")
    if parent:
        body += field(4, parent.to_bytes(8, "big"))
    return field(2, body + (text(9, "service.name", f"s{number}") if service else b""))


def group(resource: bytes, spans: bytes, scope: bytes = b"") -> bytes:
    return field(1, field(1, resource) + field(2, (field(1, scope) if scope else b"") + spans))


def many(count: int, name: Callable[[int], str]) -> bytes:
    return b"".join(text(1, name(number), "v") for number in range(count))


def spans_of(size: int) -> bytes:
    return b"".join(map(span, range(1, size // 70)))


def two_resources(size: int) -> bytes:
    """Each span's parent is of the other resource, and each has a service of its own."""
    half = size // 240
    first = b"".join(span(number, service=True) for number in range(1, half))
    second = b"".join(span(half + number, number, service=True) for number in range(1, half))
    return group(many(size // 50, "one{}".format), first) + group(many(size // 50, "other{}".format), second)


SHAPES: dict[str, Callable[[int], bytes]] = {
    "attributes": lambda size: group(many(size // 40, "key{}".format), spans_of(size // 2)),
    "prefixed": lambda size: group(many(size // 40, "gen_ai.{}".format), spans_of(size // 2)),
    "one key": lambda size: group(many(size // 40, lambda _: "service.name"), spans_of(size // 2)),
    "a scope": lambda size: group(b"", spans_of(size // 2), field(1, b"x" * (size // 2))),
    "two resources": two_resources,
    **{
        key: lambda size, key=key, letter=letter: group(  # type: ignore[misc]
            text(1, key, letter * (size // 2 // len(letter.encode()))), spans_of(size // 2)
        )
        for key, letter in {
            "service.name": "é", "db.statement": "1,", "db.cassandra.contact.points": "a,", "host.name": "a.",
            "_sample_rate": "0", "_dd.measured": "1", "http.status_code": "2", "rpc.grpc.status_code": "_",
            "version": "é", "other": "x", "peer.service": "é", "operation.name": "é",
        }.items()
    },
}  # fmt: skip


def statistics() -> SpanObserver:
    return Concentrator(NOW_NS, max_bytes=64 << 20)


def span_metrics() -> SpanObserver:
    return SpanMetrics(shape_of(SpanMetricsSettings(enabled=True, dimensions=("http.request.method", "host.name"))))


def secs(make: Callable[[], SpanObserver], record: bytes) -> float:
    observer = make()
    began = process_time()
    observer.add(TRACE_ID, [record], False)
    return process_time() - began


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [statistics, span_metrics])
def test_counting_takes_time_by_bytes(make: Callable[[], SpanObserver], shape: str) -> None:
    for share in (16, 4, 1):  # the largest last, which would take hours by shared bytes times spans
        record = SHAPES[shape](LARGEST // share)
        took = min(secs(make, record) for _ in range(2))
        assert took < 1.0 / share + 0.05, f"{len(record):,} bytes: {took:.2f} s"
    assert len(record) > 0.8 * LARGEST
