"""Input that is not keyed: the first stage writes each span once, whatever happens to it, and the traces are whole."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.real import output
from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, daemons, file_spans, settings, until
from tests.real.unkeyed import UnkeyedLoad, Watch, check_topic, rekey_group, wait_until_kept, wait_until_split

KILLS = int(os.environ.get("REKEY_KILLS", "30"))
PARTITIONS = 3
SEED = int(os.environ.get("KILL_SEED", "1"))


def config_of(broker: Broker, topic: str, kept: Path, session_ms: int, **rekey: Any) -> dict[str, Any]:
    return settings(
        broker.bootstrap,
        topic,
        kafka={
            "sessionTimeoutMs": session_ms,
            "rekey": {"enabled": True, "maxAheadSecs": 1, "transactionTimeoutSecs": 3} | rekey,
        },
        exporters=[{"name": "file", "type": "file", "path": str(kept), "batchTimeoutSecs": 0.1}],
    )


def test_thirty_kills(apache: Broker, tmp_path: Path) -> None:
    """`kill -9` of the whole daemon: while it starts, at any moment, and every other time in a transaction."""
    began = time.monotonic()
    chance = Random(SEED)
    topic, kept = f"unkeyed-{SEED}", tmp_path / "kept.jsonl"
    apache.create_topic(topic, PARTITIONS, **{"retention.ms": "86400000"})
    config = config_of(apache, topic, kept, 1000)
    with (
        Group.watch(apache, rekey_group(config), PARTITIONS) as group,
        UnkeyedLoad(apache.bootstrap, topic, SEED) as load,
    ):
        with Daemon(tmp_path / "daemon", config) as daemon, Watch.on(apache, f"{topic}.by-trace") as watch:
            in_work = 0
            for number in range(KILLS):
                if chance.random() < 0.2:  # in the middle of starting
                    moment = time.monotonic() + chance.uniform(0.1, 2.0)
                else:
                    daemon.ready()
                    before = group.committed()
                    until(lambda: group.committed() != before, 20, daemon.tail)  # noqa: B023  # asked before it changes
                    in_work += 1
                    moment = time.monotonic() + chance.uniform(0, 0.3)
                until(lambda: time.monotonic() >= moment, 10)  # noqa: B023  # as above
                if number % 2 and daemon.is_ready:
                    watch.wait(5)
                assert daemon.running, daemon.tail()
                daemon.kill()
                daemon.start()
            daemon.ready()
            load.finish()
            wait_until_split(group, daemon)
            wait_until_kept(daemon, load, lambda: Counter(file_spans(kept)))
            assert daemon.metric("kafka_unkeyed_records_total") == 0, "what the second stage reads is keyed"
            stop_secs = daemon.stop()
        messages = check_topic(apache, f"{topic}.by-trace", load)
        loose = output.committed(apache.bootstrap, f"{topic}.by-trace", isolation="read_uncommitted")
    assert len(loose) > len(messages), "no kill hit a transaction"
    counts = Counter(file_spans(kept))
    assert counts.keys() == load.kept(), "law 1, law 2"
    for message in messages:  # the record's own headers and time, and where it came from
        headers = dict(message.headers() or [])
        assert (headers["tenant"], headers["empty"]) == (b"a", None)
        told = headers["tss-source"]
        assert isinstance(told, bytes) and told.decode().split()[:2] == [f"{topic}-group.rekey", topic]
    print(
        f"\nseed {SEED}: {KILLS} kills ({in_work} in work) in {time.monotonic() - began:.0f} s, {load.records} records, "
        f"{len(load.traces)} traces, {len(load.places())} spans, {len(messages)} keyed records and {len(loose) - len(messages)} aborted, stop {stop_secs:.2f} s"
    )


def test_two_replicas(apache: Broker, tmp_path: Path) -> None:
    """Input partitions change hands in order, by a kill, and from one that stood still past its session and goes on."""
    topic = f"unkeyed-replicas-{SEED}"
    apache.create_topic(topic, PARTITIONS)
    files = [tmp_path / f"kept-{name}.jsonl" for name in "ab"]
    a, b = (Daemon(tmp_path / path.stem, config_of(apache, topic, path, 1500, partitions=4)) for path in files)
    both = lambda: sum((Counter(file_spans(path)) for path in files), Counter())  # noqa: E731
    with (
        daemons(a, b),
        Group.watch(apache, rekey_group(a.config), PARTITIONS) as group,
        UnkeyedLoad(apache.bootstrap, topic, SEED) as load,
    ):
        a.start()
        a.ready()
        b.start()
        b.ready()
        splits_some(b)
        b.kill()
        b.start()
        splits_some(b)
        a.signal(signal.SIGSTOP)
        before = b.metric("rekey_records_total")
        until(lambda: len(b.said("partitions to split by trace assigned")) > 1, 20, b.tail)
        until(lambda: b.metric("rekey_records_total") > before, 20, b.tail)
        a.signal(signal.SIGCONT)
        until(lambda: a.said("partitions to split by trace lost"), 20, a.tail)
        splits_some(a)
        a.stop()
        load.finish()
        wait_until_split(group, b)
        wait_until_kept(b, load, both)
        b.stop()
        messages = check_topic(apache, f"{topic}.by-trace", load)
    assert both().keys() == load.kept(), "law 1, law 2"
    print(f"\nseed {SEED}: {load.records} records, {len(load.places())} spans, {len(messages)} keyed records")


def splits_some(daemon: Daemon) -> None:
    """Wait until it has written something more."""
    daemon.ready()
    before = daemon.metric("rekey_records_total")
    until(lambda: daemon.metric("rekey_records_total") > before, 20, daemon.tail)


def test_an_unkeyed_topic_is_told_of(apache: Broker, tmp_path: Path) -> None:
    """Without the stage: a metric, a log line with what to do, and /health; of a topic with one partition nothing."""
    for partitions in (1, 3):
        topic = f"unkeyed-told-{partitions}"
        apache.create_topic(topic, partitions)
        config = config_of(apache, topic, tmp_path / f"{topic}.jsonl", 6000, enabled=False)
        with UnkeyedLoad(apache.bootstrap, topic, SEED), Daemon(tmp_path / topic, config) as daemon:
            daemon.ready()
            until(lambda: daemon.metric("kafka_records_read_total") > 100, 20, daemon.tail)
            if partitions == 1:
                assert "keying" not in daemon.health()["components"]
                assert daemon.metric("kafka_unkeyed_records_total") == 0
            else:
                until(lambda: "keying" in daemon.health()["components"], 20, daemon.tail)
                keying = daemon.health()["components"]["keying"]
                assert keying["state"] == "degraded"
                assert "partition_traces_by_id" in keying["detail"] and "kafka.rekey" in keying["detail"]
                assert daemon.is_ready, "it goes on all the same"
                assert daemon.metric("kafka_unkeyed_records_total") > 0
                assert daemon.said("not keyed by trace id")
            daemon.stop()
