"""Law 5 with every feature on: a daemon with 256 MiB for traces stays within the container that this is two thirds of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from tests.core.spans import span_id, trace_id
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, daemons, settings
from tests.real.redis_server import RedisServer
from tss.__main__ import main

pytestmark = pytest.mark.alone

MIB = 1 << 20
MAX_BUFFER_BYTES = 256 * MIB
# `maxBufferBytes` is two thirds of (memory limit - 128 MiB) by default, so this is the container of 256 MiB.
CONTAINER_BYTES = 128 * MIB + MAX_BUFFER_BYTES * 3 // 2
TRACES, RECORDS, SPANS = 3_907, 4, 8  # of a trace, of a record: 125,000 spans with eight values each that no other has
ENDED = 0.25  # this share of the traces ends while the others arrive
# What no kind counts: librdkafka's fetched messages, the buffers of zstd and of the destinations, and what the allocator keeps
# of what was freed.
UNTOLD_BYTES = 48 * MIB
READ_SECS, LOOK_SECS = 180.0, 0.5  # a scrape takes some 30 ms of the daemon
QUIET_SECS, AHEAD_SECS = 20, 200  # the wall clock does not reach the records' time, so it closes no trace
TOKEN = {"TSS_FORCE_SAMPLING_ADMIN_TOKEN": "for-the-tests-alone"}

KEYS = {
    "url.path": "/orders/of/a/customer/",
    "user.id": "the customer with the number ",
    "tenant.id": "tenant-",
    "session.id": "",
    "messaging.message.id": "orders-",
    "network.peer.address": "2001:db8::",
    "exception.message": "timeout while waiting for the connection " * 5,
    "db.query.text": "SELECT number, name, price, stock FROM items JOIN orders USING (id) WHERE name = ? AND number = "
    * 5,
}
_TRACE, _VALUE = b"\xf5<- A TRACE -> \xf6", "<A-VALUE!>"  # what stands in a template for what is filled in

POLICIES: list[dict[str, Any]] = [
    {"name": "errors", "keep": 1.0, "when": {"status": "error"}},
    {"name": "probes", "drop": True, "when": 'root.attributes["url.path"] == "/healthz"'},
    {"name": "admin", "keep": 0.5, "when": 'IsMatch(attributes["url.path"], "^/(admin|internal)/[0-9a-f]+$")'},
    {"name": "ends in 00", "keep": 0.5, "when": 'IsMatch(attributes["url.path"], "0000$")'},
    {"name": "writes", "keep": 0.3, "when": 'attributes["http.response.status_code"] >= 500 and kind == SPAN_KIND_CLIENT'},
    {"name": "tenants", "keep": 0.3, "when": {"attribute": {"tenant.id": ["acme*", "umbrella"]}}},
    {"name": "checkout", "keep": 0.2, "when": {"service": "checkout", "latency": "> 2s"}},
    {"name": "routes", "keep": 0.2, "when": {"route": ["/pay", "/v2/pay"]}},
    {"name": "orders", "keep": 0.1, "when": 'attributes["user.id"] == "nobody" or name == "none"'},
    {"name": "rows", "keep": 0.1, "when": {"attribute": {"db.response.returned_rows": "> 100000"}}},
    *({"name": f"long {number}", "keep": 0.05, "when": {"spans": f"> {100 * number}"}} for number in range(1, 5)),
    *({"name": f"slow {number}", "keep": 0.05, "when": {"latency": f"> {number}s"}} for number in range(1, 5)),
    {"name": "tried", "keep": 1.0, "mode": "shadow", "when": 'IsMatch(root.name, "^GET /")'},
    {"name": "rest", "keep": 0.1},
]  # fmt: skip


def test_law_5_every_feature_on_and_a_million_distinct_values(
    apache: Broker, redis: RedisServer, tmp_path: Path
) -> None:
    assert len(POLICIES) == 20
    apache.create_topic("everything")
    daemon = Daemon(tmp_path / "daemon", _config(apache, redis, tmp_path), TOKEN)
    with daemons(daemon), Group.watch(apache, daemon.config, 1):
        daemon.start()
        daemon.ready()
        rule = "add", "the operators", "--keep", "--match", "span:user.id eq none", "--for", "1h"
        assert main(["force", *rule, "--url", f"http://127.0.0.1:{daemon.port}"], TOKEN) == 0
        before = _resident(daemon, "VmRSS")
        _fill(apache)
        filled = time.monotonic()
        while (read := daemon.metric("spans_ingested_total")) < TRACES * RECORDS * SPANS:
            assert time.monotonic() - filled < READ_SECS, f"{read:.0f} spans read\n{daemon.tail()}"
            time.sleep(LOOK_SECS)
        held, taken = daemon.metric("held_bytes"), _resident(daemon, "VmRSS") - before
        peak = _resident(daemon, "VmHWM")
        print(
            f"\n{held / MIB:.0f} MiB told, {taken / MIB:.0f} taken, {peak / MIB:.0f} at most, {before / MIB:.0f} before"
        )
        for name in ("packed_traces_total", "compressed_spans_total", "shadow_decisions_total", "force_rules_current"):
            assert daemon.metric(name), name
        daemon.kill()
    for name in ("all", "some"):
        assert b"ot=th:" in (tmp_path / f"{name}.jsonl").read_bytes()
    assert peak < CONTAINER_BYTES
    assert -held * 0.15 < taken - held < UNTOLD_BYTES


def _config(broker: Broker, redis: RedisServer, directory: Path) -> dict[str, Any]:
    to_file = {"type": "file", "batchTimeoutSecs": 0.1}
    return settings(
        broker.bootstrap,
        "everything",
        app={
            "maxBufferBytes": MAX_BUFFER_BYTES,
            "maxBufferSpans": 10_000_000,
            "maxBufferTraces": 1_000_000,
            "rootQuietSecs": QUIET_SECS,
            "inactivityTimeoutSecs": 600,
        },
        sampling={"policies": POLICIES},
        spanCompression={"enabled": True},
        redis={"url": redis.url},
        exporters=[
            to_file | {"name": "all", "path": str(directory / "all.jsonl")},
            to_file
            | {"name": "some", "path": str(directory / "some.jsonl")}
            | {"match": {"attributes": {"url.path": "/orders/*1", "tenant.id": ["acme*", "tenant-*"]}}},
        ],
    )


def _resident(daemon: Daemon, name: str) -> int:
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    (found,) = (int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    return found * 1024


def _fill(broker: Broker) -> None:
    """A share of the traces first; the others begin after it is quiet for long enough to end."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 20, "batch.size": 1 << 18, "log_level": 0})
    first_ms = round(1000 * (time.time() + AHEAD_SECS))
    ended = int(TRACES * ENDED)
    for number, value in enumerate(_records()):
        later = number >= ended * RECORDS
        at_ms = first_ms + (number * 5_000 // (TRACES * RECORDS)) + later * 1000 * (QUIET_SECS + 1)
        while True:
            try:
                producer.produce("everything", value, partition=0, timestamp=at_ms)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(30) == 0


def _records() -> Iterator[bytes]:
    templates = [_template(number) for number in range(RECORDS)]
    first = 0
    for id in map(trace_id, range(TRACES)):
        for template in templates:
            filled = [each for number in range(SPANS) for each in (id, *[b"%010x" % (first + number)] * len(KEYS))]
            first += SPANS
            yield template % tuple(filled)


def _template(record: int) -> bytes:
    """For bytes' % operator: of each span the trace id, and what each of its values ends with."""
    spans = []
    for number in range(SPANS):
        began_ns = 10**18 + (record * SPANS + number) * 10_000_000
        made = Span(
            trace_id=_TRACE,
            span_id=span_id(record * SPANS + number),
            parent_span_id=span_id(0) if record or number else b"",
            name="SELECT orders" if number > 2 else "GET /orders",
            kind=Span.SPAN_KIND_CLIENT if number > 2 else Span.SPAN_KIND_SERVER,
            start_time_unix_nano=began_ns,
            end_time_unix_nano=began_ns + 5_000_000,
        )
        made.attributes.add(key="http.response.status_code").value.int_value = 200
        made.attributes.add(key="server.address").value.string_value = "storefront.shop.svc.cluster.local"
        for key, text in KEYS.items():
            made.attributes.add(key=key).value.string_value = text + _VALUE
        spans.append(made)
    one = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    one.resource.attributes.add(key="service.name").value.string_value = "storefront"
    data = TracesData(resource_spans=[one]).SerializeToString().replace(b"%", b"%%")
    return data.replace(_TRACE, b"%b").replace(_VALUE.encode(), b"%b")
