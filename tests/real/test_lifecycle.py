"""Starting, stopping and going on: what the daemon does when it is told to, and when the world around it breaks."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from confluent_kafka.admin._resource import ResourceType

from demo import traffic
from demo.traffic import Trace
from tests.contracts.source import Sent
from tests.real.brokers import PASSWORD, STRANGER, STRANGER_PASSWORD, USER, ApacheKafka, Broker, Tansu
from tests.real.daemon import Daemon, Group, Section, file_spans, settings, until
from tests.real.kafka_world import produce
from tests.real.load import MIX, Load, SpanId
from tests.sinks import OtlpSink, Reply

STOP_SECS = 4.0  # shutdownTimeoutSecs where something hangs
AGE_SECS = 5.0  # more than rootQuietSecs and the grace of the wall clock together
EXIT_SECS = 1.0  # for the interpreter to end, and for a busy machine
# Its last trace is decided some 4 s after the last record.
BRIEF = attrs.evolve(MIX, rootless=0, late_secs=(2.0, 3.0))
_topics = count(1)


@attrs.define
class World:
    """A topic of its own, and a daemon that reads it into a file."""

    broker: Broker
    directory: Path
    topic: str
    config: dict[str, Any]
    sent: int = 0

    @property
    def kept(self) -> Path:
        return self.directory / "kept.jsonl"

    @property
    def daemon(self) -> Daemon:
        return Daemon(self.directory / "daemon", self.config)

    def send(self, *traces: Trace) -> None:
        """All at once. They are old enough to be complete when they are read."""
        self.produce(*(Sent(each.value, key=each.key) for trace in traces for each in trace.messages))

    def produce(self, *records: Sent) -> None:
        dated = round((time.time() - AGE_SECS) * 1000)
        produce(self.broker.bootstrap, self.topic, [attrs.evolve(record, timestamp_ms=dated) for record in records])
        self.sent += len(records)

    def run_until_done(self, daemon: Daemon) -> None:
        """Wait until everything sent is committed, and stop."""
        with Group.watch(self.broker, self.config, 1) as group:
            group.wait_until_done(20, daemon.tail, {0: self.sent})
        daemon.stop()

    @contextmanager
    def group(self) -> Iterator[Group]:
        with Group.watch(self.broker, self.config, 1) as group:
            yield group


def make_world(broker: Broker, directory: Path, **sections: Section | list[Section]) -> World:
    topic = f"lifecycle-{next(_topics)}"
    broker.create_topic(topic)
    to_file: list[Section] = [{"name": "file", "type": "file", "path": str(directory / "kept.jsonl")}]
    return World(broker, directory, topic, settings(broker.bootstrap, topic, **({"exporters": to_file} | sections)))


def to_sink(sink: OtlpSink | int, **more: object) -> list[Section]:
    url = f"http://127.0.0.1:{sink}" if isinstance(sink, int) else sink.url
    return [
        {"name": "sink", "type": "otlp", "endpoint": url, "batchTimeoutSecs": 0.1, "retryInitialDelayMs": 100} | more
    ]


def some_traces(number: int, *, errors: bool = True) -> list[Trace]:
    """Whole traces; with errors, so that all must be kept, or none of them."""
    mix = attrs.evolve(MIX, errors=1.0 if errors else 0.0, slow=0, late=0, rootless=0)
    made = traffic.traces(number, mix, time.time_ns())
    return [next(made) for _ in range(number)]


def spans(traces: list[Trace]) -> set[SpanId]:
    return {(trace.trace_id, span) for trace in traces for span in trace.span_ids}


def fails(daemon: Daemon, code: int = 1, secs: float = 20) -> str:
    """It ends by itself with this code; returns its last line."""
    with daemon:
        assert daemon.end(secs) == code, daemon.tail()
    return daemon.last_event


# -- starting


def test_start_to_ready(broker: Broker, tmp_path: Path) -> None:
    world = make_world(broker, tmp_path)
    found = []
    with world.daemon as daemon:
        for _ in range(2):
            found.append(daemon.ready())
            assert daemon.health()["status"] == "ok"
            stopped = daemon.stop()
            daemon.start()
    print(f"\n{broker.name}: start to ready {', '.join(f'{secs:.2f}' for secs in found)} s, stop {stopped:.2f} s")


def test_wrong_settings_are_all_named_and_end_with_2(tmp_path: Path) -> None:
    config = settings("127.0.0.1:9", "traces", app={"rootQuietSecs": -1, "rootQuitSecs": 3}, kafka={"brokers": ""})
    config["exporters"] = [{"name": "file", "type": "flie", "path": "x"}]
    with Daemon(tmp_path / "daemon", config) as daemon:
        assert daemon.end(10) == 2, daemon.tail()
        for fault in ("app.rootQuietSecs", "app.rootQuitSecs", "kafka.brokers", "exporters"):
            assert fault in daemon.tail(), daemon.tail()
        assert "Traceback" not in daemon.tail()


def secured(apache: Broker, tmp_path: Path, **kafka: object) -> World:
    """A daemon at the listener for SASL over TLS, with everything right but what is given."""
    assert isinstance(apache, ApacheKafka)
    right = {
        "brokers": f"127.0.0.1:{apache.sasl_ssl_port}",
        "saslMechanism": "SCRAM-SHA-256",
        "saslUsername": USER,
        "saslPassword": PASSWORD,
        "sslCaLocation": str(apache.certificates.ca),
    }
    return make_world(apache, tmp_path, kafka=right | kafka)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_sasl_over_tls(apache: Broker, tmp_path: Path, mechanism: str) -> None:
    world = secured(apache, tmp_path, saslMechanism=mechanism)
    traces = some_traces(20)
    with world.daemon as daemon:
        daemon.ready()
        world.send(*traces)
        world.run_until_done(daemon)
    assert set(file_spans(world.kept)) == spans(traces)
    assert PASSWORD not in daemon.output.read_text()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"saslPassword": "not-the-password"}, "kafka.saslPassword"),
        ({"sslCaLocation": "other"}, "kafka.sslCaLocation"),
        ({"saslUsername": STRANGER, "saslPassword": STRANGER_PASSWORD, "saslMechanism": "PLAIN"}, "ACLs"),
    ],
    ids=["password", "trust", "authorisation"],
)
def test_refused_by_the_broker_for_good(apache: Broker, tmp_path: Path, wrong: Mapping[str, object], why: str) -> None:
    assert isinstance(apache, ApacheKafka)
    if wrong.get("sslCaLocation"):
        wrong = {"sslCaLocation": str(apache.certificates.other_ca)}
    world = secured(apache, tmp_path, **wrong)
    if wrong.get("saslUsername") == STRANGER:
        apache.deny(STRANGER, ResourceType.TOPIC, world.topic)
    last = fails(world.daemon)
    assert last.startswith("Failed to connect to Kafka") and why in last, last


def test_waits_for_a_broker_that_is_absent(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    broker = Tansu(tmp_path / "broker")
    config = settings(broker.bootstrap, "late-topic")
    config["exporters"] = [{"name": "file", "type": "file", "path": str(tmp_path / "kept.jsonl")}]
    with Daemon(tmp_path / "daemon", config) as daemon:
        until(lambda: daemon.said("Failed to connect to Kafka"), 15, daemon.tail)
        assert daemon.get("/health/live")[0] == 200
        status, body = daemon.get("/health/ready")
        assert status == 503 and "kafka" in body
        with broker:
            broker.create_topic("late-topic")
            daemon.ready()
            until(lambda: daemon.said("connected to Kafka again"), 5, daemon.tail)
            daemon.stop()


def test_port_in_use(tansu: Broker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        world = make_world(tansu, tmp_path)
        world.config["observability"] |= {"healthPort": port}
        last = fails(world.daemon)
    assert f"observability.healthPort {port}" in last and "in use" in last


@pytest.mark.parametrize("place", ["folder", "below a file"])
def test_file_that_cannot_be_written(tansu: Broker, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path if place == "folder" else tmp_path / "file" / "kept.jsonl"
    exporters: list[Section] = [{"name": "file", "type": "file", "path": str(path)}]
    last = fails(make_world(tansu, tmp_path, exporters=exporters).daemon, code=2)
    assert f"exporters, file: {path}: cannot be opened for writing" in last


def test_torn_tail_is_mended(apache: Broker, tmp_path: Path) -> None:
    world = make_world(apache, tmp_path)
    traces = some_traces(5)
    with world.daemon as daemon:
        daemon.ready()
        world.send(*traces)
        world.run_until_done(daemon)
        whole = world.kept.read_bytes()
        world.kept.write_bytes(whole + whole[: len(whole) // 3].replace(b"\n", b" "))
        daemon.start()
        daemon.ready()
        assert world.kept.read_bytes() == whole
        assert daemon.said("torn last line")


def test_garbage_goes_to_the_dead_letters(broker: Broker, tmp_path: Path) -> None:
    world = make_world(broker, tmp_path)
    garbage = Random(1).randbytes(200)
    traces = some_traces(5)
    with world.daemon as daemon:
        daemon.ready()
        world.produce(Sent(garbage, key=b"key", headers=(("origin", b"\xff"),)))
        world.send(*traces)
        until(lambda: daemon.metric("traces_sampled_total") == len(traces), 10, daemon.tail)
        (letter,) = [json.loads(line) for line in (daemon.directory / "dead-letters.jsonl").read_text().splitlines()]
        assert base64.b64decode(letter["payload"]) == garbage
        assert (letter["topic"], letter["partition"], letter["offset"]) == (world.topic, 0, 0)
        assert base64.b64decode(letter["key"]) == b"key"
        assert [[name, base64.b64decode(value)] for name, value in letter["headers"]] == [["origin", b"\xff"]]
        assert daemon.metric("records_unreadable_total", reason=letter["reason"]) == 1
        world.run_until_done(daemon)
    assert set(file_spans(world.kept)) == spans(traces)


# -- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_law_9_stops_on_a_signal(broker: Broker, tmp_path: Path, number: signal.Signals) -> None:
    world = make_world(broker, tmp_path)
    with world.daemon as daemon:
        daemon.ready()
        world.send(*some_traces(20))
        until(lambda: daemon.metric("spans_ingested_total"), 10, daemon.tail)
        began = time.monotonic()
        daemon.signal(number)
        assert daemon.end(10) == 0
        assert time.monotonic() - began < STOP_SECS
        assert daemon.last_event == "stopped"


def test_a_closed_terminal_stops_it_in_order(broker: Broker, tmp_path: Path) -> None:
    """The kernel and the shell each send SIGHUP then: the second one changes nothing."""
    world = make_world(broker, tmp_path)
    traces = some_traces(20)
    master, slave = pty.openpty()
    daemon = Daemon(tmp_path / "daemon", world.config, terminal=slave)
    with daemon, world.group() as group:
        os.close(slave)
        daemon.ready()
        world.send(*traces)
        until(lambda: daemon.metric("traces_sampled_total") == len(traces), 20, daemon.tail)
        daemon.signal(signal.SIGHUP)  # the terminal is there: it only asks to read the settings again
        until(lambda: daemon.metric("reloads_total", source="signal", outcome="unchanged"), 10, daemon.tail)
        os.close(master)
        daemon.signal(signal.SIGHUP)
        assert daemon.end(20) == 0
        assert daemon.last_event == "stopped"
        assert group.committed() == {0: world.sent}


MEANT_FOR_OTHERS = (signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO)


def test_sigusr1_tells_the_state_and_other_signals_end_nothing(broker: Broker, tmp_path: Path) -> None:
    world = make_world(broker, tmp_path)
    with world.daemon as daemon:
        daemon.ready()
        world.send(*some_traces(20))
        until(lambda: daemon.metric("traces_sampled_total"), 20, daemon.tail)
        for number in MEANT_FOR_OTHERS:
            daemon.signal(number)
        daemon.signal(signal.SIGUSR1)
        until(lambda: daemon.said("state"), 10, daemon.tail)
        (state,) = [line for line in daemon.log if line["event"] == "state"]
        assert (state["status"], state["unready_because"]) == ("ok", None)
        assert state["components"] == {"exporter file": "up", "kafka": "up", "policies": "up"}
        assert state["partition_states"]["0"].startswith(f"read to {world.sent}, lag "), state
        assert {"openTraces", "heldBytes", "channel_polled", "channel_settled"} <= state.keys()
        daemon.stop()


def hanging(broker: Broker, tmp_path: Path, sink: OtlpSink, **app: object) -> World:
    """A world with a destination that hangs, and short stops."""
    sink.usual = Reply(hang_secs=60)
    return make_world(
        broker,
        tmp_path,
        app={"shutdownTimeoutSecs": STOP_SECS, **app},
        exporters=to_sink(sink),
    )


def test_law_9_with_a_destination_that_hangs(apache: Broker, tmp_path: Path) -> None:
    """And what it had is delivered after the next start."""
    traces = some_traces(20)
    with OtlpSink() as sink:
        world = hanging(apache, tmp_path, sink)
        with world.daemon as daemon, world.group() as group:
            daemon.ready()
            world.send(*traces)
            until(lambda: sink.request_count, 15, daemon.tail)
            took = daemon.stop(STOP_SECS + EXIT_SECS)
            assert daemon.said("stopped before everything in hand was delivered")
            assert not daemon.said("the consumer group was not left"), daemon.tail()
            assert took < STOP_SECS + EXIT_SECS
            assert not sink.spans
            assert group.committed() == {0: 0}
            sink.usual = Reply()
            daemon.start()
            world.run_until_done(daemon)
        assert set(sink.spans) == spans(traces)


def test_law_9_with_no_time_for_grace(apache: Broker, tmp_path: Path) -> None:
    with OtlpSink() as sink:
        world = hanging(apache, tmp_path, sink, gracefulShutdown=False)
        with world.daemon as daemon:
            daemon.ready()
            world.send(*some_traces(20))
            until(lambda: sink.request_count, 15, daemon.tail)
            assert daemon.stop() < STOP_SECS / 2


def test_second_signal_ends_at_once_with_1(apache: Broker, tmp_path: Path) -> None:
    with OtlpSink() as sink:
        world = hanging(apache, tmp_path, sink, shutdownTimeoutSecs=30)
        with world.daemon as daemon:
            daemon.ready()
            world.send(*some_traces(20))
            until(lambda: sink.request_count, 15, daemon.tail)
            daemon.signal(signal.SIGTERM)
            until(lambda: daemon.said("stopping"), 5)
            assert daemon.get("/health/ready")[0] == 503
            assert daemon.get("/health/live")[0] == 200
            daemon.signal(signal.SIGTERM)
            assert daemon.end(10) == 1  # a third of what the first signal gives it
            assert "second signal" in daemon.last_event


@pytest.mark.parametrize("how", ["frozen", "stopped"])
def test_law_9_with_a_broker_that_is_away(apache: Broker, tmp_path: Path, how: str) -> None:
    """What was delivered and could not be committed is read again: nothing is lost."""
    world = make_world(apache, tmp_path, app={"shutdownTimeoutSecs": STOP_SECS})
    traces = some_traces(20)
    with world.daemon as daemon:
        daemon.ready()
        world.send(*traces)
        until(lambda: daemon.metric("spans_ingested_total"), 10, daemon.tail)
        (apache.freeze if how == "frozen" else apache.stop)()
        try:
            took = daemon.stop(STOP_SECS + EXIT_SECS)
        finally:
            (apache.thaw if how == "frozen" else apache.start)()
        print(f"\n{how}: stopped in {took:.2f} s")
        daemon.start()
        world.run_until_done(daemon)
    assert set(file_spans(world.kept)) == spans(traces)


# -- going on


def test_law_1_broker_stopped_and_started_under_load(apache: Broker, tmp_path: Path) -> None:
    world = make_world(apache, tmp_path)
    with world.daemon as daemon, world.group() as group:
        daemon.ready()
        with Load(apache.bootstrap, world.topic, 1, BRIEF) as load:
            until(lambda: daemon.metric("traces_sampled_total"), 20, daemon.tail)
            apache.stop()
            until(lambda: not daemon.is_ready, 20, daemon.tail)
            assert daemon.said("Failed to connect to Kafka"), daemon.tail()
            before = load.records
            apache.start()
            took = until(lambda: daemon.is_ready, 40, daemon.tail)
            until(lambda: load.records > before, 10, "the traffic does not go on")
        group.wait_until_done(30, daemon.tail)
        daemon.stop()
    print(f"\nready {took:.2f} s after the broker")
    assert set(file_spans(world.kept)) == load.kept()


def test_law_8_destination_away(apache: Broker, tmp_path: Path) -> None:
    """Reading pauses, the membership survives, nothing is dropped, and it goes on by itself."""
    with OtlpSink() as placeholder:
        port = placeholder.port
    world = make_world(
        apache,
        tmp_path,
        app={"maxBufferBytes": 4 * 1024 * 1024},  # an eighth is for what waits for a destination: some 50 traces
        kafka={"sessionTimeoutMs": 1000},
        exporters=to_sink(port),
    )
    traffic_per_sec = 100  # some two records a trace
    mix = attrs.evolve(BRIEF, traces_per_sec=50, errors=0.5)
    with world.daemon as daemon, world.group() as group:
        daemon.ready()
        with Load(apache.bootstrap, world.topic, 2, mix) as load:
            paused = until(lambda: daemon.metric("backpressure_paused"), 40, daemon.tail)
            uncommitted = group.committed()
            lag = _lag(group)
            until(lambda: _lag(group) > lag + 3 * traffic_per_sec, 20, lambda: _lag(group))  # three sessions
            until(lambda: daemon.metric("kafka_consumer_lag") > traffic_per_sec, 10, daemon.tail)
            assert daemon.metric("export_errors_total", destination="sink") > 0
            status, body = daemon.get("/health/ready")
            assert status == 503 and "exporter sink" in body
            assert group.committed() == uncommitted
            with OtlpSink(port) as sink:
                began = time.monotonic()
                until(lambda: not daemon.metric("backpressure_paused") and daemon.is_ready, 30, daemon.tail)
                recovered = time.monotonic() - began
                load.finish()
                group.wait_until_done(40, daemon.tail)
                assert daemon.metric("kafka_rebalances_total") == 1, daemon.tail()
                assert daemon.metric("dead_letters_total") == 0
                daemon.stop()
                assert dict(sink.counts) == dict.fromkeys(load.kept(), 1)
    print(f"\npaused after {paused:.2f} s, recovered {recovered:.2f} s after the destination came")


def _lag(group: Group) -> int:
    return sum(group.ends().values()) - sum(group.committed().values())


def test_rehearsal_commits_nothing(apache: Broker, tmp_path: Path) -> None:
    world = make_world(apache, tmp_path, kafka={"enableAutoCommit": False})
    traces = some_traces(10)
    with world.daemon as daemon, world.group() as group:
        daemon.ready()
        world.send(*traces)
        until(lambda: daemon.metric("traces_sampled_total") == len(traces), 15, daemon.tail)
        daemon.stop()
        assert group.committed() == {0: 0}
    assert set(file_spans(world.kept)) == spans(traces)
