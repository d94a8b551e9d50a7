"""The whole daemon with every destination at once: what each gets, what is counted of all spans, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.contracts.source import Sent
from tests.edges.http.test_otlp_metrics import MetricsSink
from tests.real import agent, output
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, Section, settings, until
from tests.real.kafka_world import produce
from tests.real.orders import MIN_RUN, PARTITIONS, SAMPLING, Found, Order, calls, check, orders, statistics
from tests.sinks import DatadogIntakeSink, OtlpSink, Received, Reply, SpanId

AGE_SECS = 5.0  # more than rootQuietSecs and the grace of the wall clock together
COMPRESSION: Section = {"enabled": True, "minCompressionCount": MIN_RUN}
KILLS = 5
SEED = int(os.environ.get("KILL_SEED", "1"))
_topics = count(1)


class Intake(DatadogIntakeSink):
    """Takes statistics too, as the real one does at the same address."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stats: list[dict[str, Any]] = []

    def spans_of(self, received: Received) -> Sequence[SpanId]:
        if received.path != "/api/v0.2/stats":
            return super().spans_of(received)
        if received.headers.get("dd-api-key") != self.api_key:
            raise ValueError("the API key")
        self.stats += msgpack.unpackb(received.body)["Stats"]
        return ()

    def found(self) -> list[Found]:
        return [_of_datadog(span) for trace in self.traces for span in trace]


@pytest.fixture
def topic(apache: Broker) -> str:
    name = f"destinations-{next(_topics)}"
    apache.create_topic(name, PARTITIONS)
    return name


def started(directory: Path, config: dict[str, Any], **environment: str) -> Daemon:
    return Daemon(directory / "daemon", config, {"NO_PROXY": "127.0.0.1"} | environment)


def send(broker: Broker, topic: str, traces: Iterable[Order]) -> None:
    """All at once. They are old enough to be complete when they are read."""
    dated = round((time.time() - AGE_SECS) * 1000)
    produce(broker.bootstrap, topic, [record for each in traces for record in each.sent(dated)])


# -- what is at a destination


def _of_datadog(span: dict[str, Any]) -> Found:
    ids = bytes.fromhex(span["meta"]["otel.trace_id"]), span["span_id"].to_bytes(8, "big")
    return Found(*ids, int(span["metrics"].get("tss.composite.count", 1)))


def of_otlp(payloads: Iterable[bytes]) -> list[Found]:
    return [
        Found(span.trace_id, span.span_id, next((each.value.int_value for each in span.attributes
                                                 if each.key == "tss.composite.count"), 1))
        for payload in payloads
        for resource in TracesData.FromString(payload).resource_spans  # a request has the same fields
        for scope in resource.scope_spans
        for span in scope.spans
    ]  # fmt: skip


def of_file(path: Path) -> list[Found]:
    found = []
    for line in path.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                values = {each["key"]: each["value"] for each in span.get("attributes", ())}
                standing = int(values.get("tss.composite.count", {"intValue": 1})["intValue"])
                found.append(Found(bytes.fromhex(span["traceId"]), bytes.fromhex(span["spanId"]), standing))
    return found


def of_parquet(folder: Path) -> list[Found]:
    columns = ["trace_id", "span_id", "attributes", "decision_policy"]
    rows = [row for path in folder.glob("*.parquet") for row in pq.read_table(path, columns=columns).to_pylist()]
    assert {row["decision_policy"] for row in rows} == {"latency"}
    return [
        Found(bytes.fromhex(row["trace_id"]), bytes.fromhex(row["span_id"]),
              int(dict(row["attributes"]).get("tss.composite.count", 1)))
        for row in rows
    ]  # fmt: skip


def _by_service(found: dict[tuple[str, str], list[int]]) -> dict[str, list[int]]:
    """The test agent does not tell the kinds."""
    services = {service for service, _ in found}
    return {
        name: [
            sum(column)
            for column in zip(*(each for (service, _), each in found.items() if service == name), strict=True)
        ]
        for name in services
    }


def of_stats(payloads: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[int]]:
    """Hits, errors, top-level hits and ns by service and kind, of all payloads together."""
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for group in (each for payload in payloads for bucket in payload["Stats"] for each in bucket["Stats"]):
        sums = found[group["Service"], group.get("SpanKind", "")]
        more = (group[name] for name in ("Hits", "Errors", "TopLevelHits", "Duration"))
        sums[:] = [total + one for total, one in zip(sums, more, strict=True)]
    return dict(found)


# -- a. all at once


def test_every_destination_at_once(apache: Broker, topic: str, tmp_path: Path) -> None:
    apache.create_topic(f"{topic}-kept", 3)
    made = [*islice(orders(SEED), 300)]
    kept = [each for each in made if each.policy]
    with OtlpSink() as everything, OtlpSink() as errors, Intake() as intake, MetricsSink() as metrics:
        with agent.running() as datadog:
            config = settings(
                apache.bootstrap,
                topic,
                sampling=SAMPLING,
                spanCompression=COMPRESSION,
                spanMetrics={"enabled": True, "otlpEndpoint": metrics.url, "otlpIntervalSecs": 1},
                datadog={"batchTimeoutSecs": 0.3},
                exporters=[
                    {"name": "all", "type": "otlp", "endpoint": everything.url, "batchTimeoutSecs": 0.1},
                    {"name": "errors", "type": "otlp", "endpoint": errors.url, "match": {"policies": ["errors"]}},
                    {"name": "gold", "type": "file", "path": str(tmp_path / "gold.jsonl"),
                     "match": {"attributes": {"tenant": "gol*"}}},
                    {"name": "intake", "type": "datadog", "via": "intake", "intakeUrl": intake.url, "apiKey": "key"},
                    {"name": "agent", "type": "datadog", "agentUrl": datadog.url, "traceApi": "v0.7"},
                    {"name": "topic", "type": "kafka", "topic": f"{topic}-kept"},
                    {"name": "slow", "type": "parquet", "path": str(tmp_path / "slow"), "batchTimeoutSecs": 1,
                     "match": {"policies": "latency"}},
                ],
            )  # fmt: skip
            with started(tmp_path, config) as daemon, Group.watch(apache, config, PARTITIONS) as group:
                daemon.ready()
                for begin in range(0, len(made), 100):
                    send(apache, topic, made[begin : begin + 100])
                group.wait_until_done(30, daemon.tail)
                _check_metrics(daemon, made)
                assert daemon.health()["status"] == "ok"
                assert daemon.stop() < config["app"]["shutdownTimeoutSecs"]
                assert group.committed() == group.ends()
            check("agent", kept, [_of_datadog(span) for chunk in datadog.traces() for span in chunk])
            taken = of_stats(json.loads(datadog.get("/test/session/stats")))
            assert _by_service(taken) == _by_service(statistics(made))
            datadog.get("/test/trace_check/failures")  # raises where a check has failed
        check("all", kept, of_otlp(each.body for each in everything.requests))
        check("errors", _by_policy(kept, "errors"), of_otlp(each.body for each in errors.requests))
        check("gold", [each for each in kept if each.tenant == "gold"], of_file(tmp_path / "gold.jsonl"))
        check("intake", kept, intake.found())
        check("topic", kept, of_otlp(_values(apache, f"{topic}-kept")))
        check("slow", _by_policy(kept, "latency"), of_parquet(tmp_path / "slow"))
        assert of_stats(intake.stats) == statistics(made)
        assert _calls_by_otlp(metrics) == calls(made)


def _by_policy(kept: Iterable[Order], policy: str) -> list[Order]:
    return [each for each in kept if each.policy == policy]


def _values(broker: Broker, topic: str) -> list[bytes]:
    return [message.value() or b"" for message in output.committed(broker.bootstrap, topic)]


def _check_metrics(daemon: Daemon, made: Sequence[Order]) -> None:
    kept = [each for each in made if each.policy]
    runs = [len(each.queries) for each in kept if len(each.queries) >= MIN_RUN]
    unique = sum(len(each.spans) for each in kept)
    counters = {
        "spans_ingested_total": sum(len(each.spans) + len(each.repeated) for each in made),
        "traces_sampled_total": len(kept),
        "export_duplicate_spans_total": sum(len(each.repeated) for each in kept),
        "compressed_groups_total": len(runs),
        "compressed_spans_total": sum(runs),
        "compression_spans_in_total": unique,
        "compression_spans_out_total": unique - sum(runs) + len(runs),
        "dead_letters_total": 0,
        "export_errors_total": 0,
    }
    assert {name: daemon.metric(name) for name in counters} == counters
    shown, exemplars = _scrape(daemon)
    assert shown == calls(made)
    assert exemplars <= {each.trace_id for each in kept}
    assert exemplars, "no exemplar"


def _scrape(daemon: Daemon) -> tuple[Counter[tuple[str, ...]], set[bytes]]:
    """By OpenMetrics: the calls of each series, and the traces of the exemplars."""
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=5)
    connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    found: Counter[tuple[str, ...]] = Counter()
    exemplars = set()
    for sample in (sample for family in parse_openmetrics(text) for sample in family.samples):
        if sample.name == "traces_span_metrics_calls_total":
            names = ("service_name", "span_name", "span_kind", "status_code")
            found[tuple(sample.labels[name] for name in names)] += int(sample.value)
        if sample.exemplar:
            exemplars.add(bytes.fromhex(sample.exemplar.labels["trace_id"]))
    return found, exemplars


def _calls_by_otlp(sink: MetricsSink) -> Counter[tuple[str, ...]]:
    """Of the last sending: they are cumulative."""
    found: Counter[tuple[str, ...]] = Counter()
    for metric in (
        each
        for resource in sink.taken[-1].resource_metrics
        for scope in resource.scope_metrics
        for each in scope.metrics
    ):
        for point in metric.sum.data_points if metric.name == "traces.span.metrics.calls" else ():
            labels = {each.key: each.value.string_value for each in point.attributes}
            names = ("service.name", "span.name", "span.kind", "status.code")
            found[tuple(labels[name] for name in names)] += point.as_int
    return found


# -- b. Datadog by its key alone


def test_the_guides_minimal_values(apache: Broker, topic: str, tmp_path: Path) -> None:
    """The key is wrong, then right; then Datadog is away, and comes back. Nobody touches the daemon meanwhile."""
    config = settings(apache.bootstrap, topic, sampling=SAMPLING)
    made = [*islice(orders(2), 90)]
    first, second, third = (made[begin : begin + 30] for begin in (0, 30, 60))
    kept = [each for each in made if each.policy]
    with Intake() as intake:
        config["datadog"] = {
            "apiEndpoint": "https://api.datadoghq.com", "apiKey": "", "intakeUrl": intake.url,
            "batchTimeoutSecs": 0.1, "retryInitialDelayMs": 100,
        }  # fmt: skip
        intake.usual = Reply(401, body=b'{"status":"error","code":401}')
        with (
            started(tmp_path, config, TSS_DATADOG_API_KEY="key") as daemon,
            Group.watch(apache, config, PARTITIONS) as group,
        ):
            daemon.ready()
            send(apache, topic, first)
            until(lambda: "401 Unauthorized" in _why(daemon), 20, daemon.tail)
            assert any("401 Unauthorized" in str(line.get("detail")) for line in daemon.log), daemon.tail()
            assert daemon.get("/health/live")[0] == 200
            send(apache, topic, second)
            held = _first_kept(made)
            assert all(offset <= held[id] for id, offset in group.committed().items())  # law 1
            intake.usual = Reply()
            probed = until(lambda: daemon.is_ready, 40, daemon.tail)
            group.wait_until_done(20, daemon.tail)
            check("401", [each for each in (*first, *second) if each.policy], intake.found(), compressed=False)
            intake.close()
            send(apache, topic, third)
            until(lambda: "exporter datadog is down" in _why(daemon), 20, daemon.tail)
            with Intake(intake.port) as again:
                recovered = until(lambda: daemon.is_ready, 40, daemon.tail)
                group.wait_until_done(20, daemon.tail)
                assert daemon.metric("dead_letters_total") == 0
                daemon.stop()
                found = intake.found() + again.found()
                assert of_stats(intake.stats + again.stats) == statistics(made)
    check("both", kept, found, compressed=False)
    assert "key" not in {line.get("detail") for line in daemon.log}
    print(f"\nafter the key was right {probed:.1f} s, after it was back {recovered:.1f} s")


def _first_kept(traces: Iterable[Order]) -> dict[int, int]:
    """By partition the offset of the first record of a kept trace; what lies before it may be committed."""
    ends: Counter[int] = Counter()
    found: dict[int, int] = {}
    for trace in traces:
        for sent in trace.sent():
            if trace.policy:
                found.setdefault(sent.partition, ends[sent.partition])
            ends[sent.partition] += 1
    return found


def _why(daemon: Daemon) -> str:
    status, body = daemon.get("/health/ready")
    return str(json.loads(body)["reason"]) if status == 503 else ""


# -- c. two spans of one id


def test_law_1_different_spans_of_one_id_reach_every_destination(apache: Broker, topic: str, tmp_path: Path) -> None:
    """As forked processes and seeded SDKs make them. The second one is the error that keeps the trace."""
    apache.create_topic(f"{topic}-kept", 1)
    before, after = _twins()
    with OtlpSink() as otlp, Intake() as intake, agent.running() as datadog:
        config = settings(
            apache.bootstrap,
            topic,
            sampling={"latencyThresholdMs": 10**6, "defaultSampleRate": 0.0},
            spanCompression=COMPRESSION,
            datadog={"batchTimeoutSecs": 0.1},
            exporters=[
                {"name": "otlp", "type": "otlp", "endpoint": otlp.url, "batchTimeoutSecs": 0.1},
                {"name": "file", "type": "file", "path": str(tmp_path / "kept.jsonl"), "batchTimeoutSecs": 0.1},
                {"name": "parquet", "type": "parquet", "path": str(tmp_path / "kept"), "batchTimeoutSecs": 0.1},
                {"name": "intake", "type": "datadog", "via": "intake", "intakeUrl": intake.url, "apiKey": "key"},
                {"name": "agent", "type": "datadog", "agentUrl": datadog.url, "traceApi": "v0.7"},
                {"name": "topic", "type": "kafka", "topic": f"{topic}-kept"},
            ],
        )  # fmt: skip
        dated = round((time.time() - AGE_SECS) * 1000)
        with started(tmp_path, config) as daemon, Group.watch(apache, config, PARTITIONS) as group:
            daemon.ready()
            produce(apache.bootstrap, topic, [Sent(_of_shop(each), 0, dated) for each in (before, [*after, *before])])
            group.wait_until_done(30, daemon.tail)
            assert daemon.metric("export_duplicate_spans_total") == 1
            assert daemon.metric("dead_letters_total") == 0
            daemon.stop()
        by_agent = [span["resource"] for chunk in datadog.traces() for span in chunk]
    table = [
        row
        for path in (tmp_path / "kept").glob("*.parquet")
        for row in pq.read_table(path, columns=["name"]).to_pylist()
    ]
    found = {
        "otlp": _names(each.body for each in otlp.requests),
        "topic": _names(_values(apache, f"{topic}-kept")),
        "file": [
            span["name"]
            for line in (tmp_path / "kept.jsonl").read_text().splitlines()
            for group in json.loads(line)["resourceSpans"]
            for scope in group["scopeSpans"]
            for span in scope["spans"]
        ],
        "parquet": [row["name"] for row in table],
        "intake": [span["resource"] for trace in intake.traces for span in trace],
        "agent": by_agent,
    }
    assert {where: sorted(names) for where, names in found.items()} == {where: ["after", "before"] for where in found}
    assert of_stats(intake.stats)["shop", "server"][:2] == [2, 1]


def _twins() -> tuple[list[Span], list[Span]]:
    """Two spans of one id in one trace, as two processes made them one after the other."""
    begin = time.time_ns() - 8 * 10**9
    one = Span(trace_id=b"one trace, 2 ids", span_id=b"one seed", kind=Span.SPAN_KIND_SERVER)
    one.start_time_unix_nano, one.end_time_unix_nano, one.name = begin, begin + 10**6, "before"
    other = Span.FromString(one.SerializeToString())
    other.start_time_unix_nano, other.end_time_unix_nano, other.name = begin + 10**6, begin + 3 * 10**6, "after"
    other.status.code = Status.STATUS_CODE_ERROR
    return [one], [other]


def _of_shop(spans: Iterable[Span]) -> bytes:
    group = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    return TracesData(resource_spans=[group]).SerializeToString()


def _names(payloads: Iterable[bytes]) -> list[str]:
    return [
        span.name
        for payload in payloads
        for group in TracesData.FromString(payload).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


# -- d. killed


def test_laws_1_and_2_with_everything_on(apache: Broker, topic: str, tmp_path: Path) -> None:
    """kill -9 under load: each kept trace is at both destinations whole, in one shape, and no other is."""
    chance = Random(SEED)
    with Intake() as intake:
        intake.usual = Reply(hang_secs=0.05)  # so that there is always something on its way
        config = settings(
            apache.bootstrap,
            topic,
            kafka={"sessionTimeoutMs": 1000},  # a killed member's partitions are free when its session ends
            sampling=SAMPLING,
            spanCompression=COMPRESSION,
            exporters=[
                {"name": "file", "type": "file", "path": str(tmp_path / "kept.jsonl"), "batchTimeoutSecs": 0.1},
                {"name": "intake", "type": "datadog", "via": "intake", "intakeUrl": intake.url, "apiKey": "key",
                 "batchTimeoutSecs": 0.1},
            ],
        )  # fmt: skip
        with (
            started(tmp_path, config) as daemon,
            Group.watch(apache, config, PARTITIONS) as group,
        ):
            with load(apache, topic) as made:
                for _ in range(KILLS):
                    daemon.ready()
                    moment = time.monotonic() + chance.uniform(0, 2.5)
                    until(lambda: time.monotonic() >= moment, 5)  # noqa: B023  # asked before it changes
                    daemon.kill()
                    daemon.start()
                daemon.ready()
            group.wait_until_done(30, daemon.tail)
            daemon.stop()
    kept = [each for each in made if each.policy]
    file, datadog = of_file(tmp_path / "kept.jsonl"), intake.found()
    check("file", kept, file, once=False)
    check("intake", kept, datadog, once=False)
    assert intake.stats
    twice = [len(found) - len(set(found)) for found in (file, datadog)]
    print(f"\n{KILLS} kills, {len(made)} traces, {len(kept)} kept; spans that came again: {twice}")


@contextmanager
def load(broker: Broker, topic: str) -> Iterator[list[Order]]:
    """Ten traces every fifth of a second until the end of the block; what was sent."""
    made: list[Order] = []
    stop = threading.Event()

    def run() -> None:
        source = orders(SEED)
        while not stop.wait(0.2):
            some = [*islice(source, 10)]
            produce(broker.bootstrap, topic, [record for each in some for record in each.sent()])
            made.extend(some)

    thread = threading.Thread(target=run, name=f"load on {topic}")
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join(60)


# -- e. wrong settings


def _wrong(key: str, value: object) -> dict[str, Any]:
    config = settings("127.0.0.1:9", "traces", exporters=[{"name": "file", "type": "file", "path": "kept.jsonl"}])
    return config | {key: value}


_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a policy that there is not": (
        _wrong("exporters", [{"name": "f", "type": "file", "path": "x", "match": {"policies": ["errrors"]}}]),
        "exporters[0].match.policies: found 'errrors'; allowed: one of errors, latency, default (did you mean errors?)",
    ),
    "two topics": (
        _wrong("exporters", [{"name": name, "type": "kafka", "topic": name} for name in "ab"]),
        "exporters[1].type: found kafka; allowed: one exporter of type kafka",
    ),
    "no key": (
        _wrong("exporters", []) | {"datadog": {"via": "otlp"}},
        "datadog.apiKey: found nothing; allowed: an API key, since via is otlp",
    ),
    "an expression that is none": (
        _wrong("spanCompression", {"enabled": True, "sqlPatterns": [{"pattern": "select (", "isRegex": True}]}),
        "spanCompression.sqlPatterns[0].pattern: found 'select ('; allowed: a regular expression",
    ),
    "a file where a folder should be": (
        _wrong("exporters", [{"name": "p", "type": "parquet", "path": "file"}]),
        "exporters, p: file: cannot be opened for writing: it is a file, but must be a folder",
    ),
}


@pytest.mark.parametrize("mistake", _MISTAKES)
def test_wrong_settings_end_with_2_and_a_sentence(tmp_path: Path, mistake: str) -> None:
    config, sentence = _MISTAKES[mistake]
    with started(tmp_path, config) as daemon:
        (daemon.directory / "file").touch()
        assert daemon.end(10) == 2, daemon.tail()
    assert sentence in re.sub(r" \(line \d+\)", "", daemon.tail())
    assert "Traceback" not in daemon.tail()
