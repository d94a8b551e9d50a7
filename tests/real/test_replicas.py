"""Laws 1 and 2 over two replicas: one leaves in order, one is killed, one stands still, and each comes back."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, daemons, file_spans, settings, until
from tests.real.load import Load
from tests.real.test_kill import Arrived, Kill
from tests.sinks import OtlpSink, Reply

pytestmark = pytest.mark.alone

PARTITIONS = 4
SEED = int(os.environ.get("REPLICAS_SEED", "1"))
SESSION_MS = 1500
UNDER_LOAD_SECS = 1.5


@attrs.define
class Fleet:
    """Two replicas, and what may have been read twice because a partition changed hands."""

    group: Group
    handovers: list[Kill] = attrs.field(factory=list)

    @contextmanager
    def handover(self) -> Iterator[None]:
        """Partitions change hands in here: what is not committed before may be read again."""
        committed = self.group.committed()
        yield
        self.handovers.append(Kill(committed, self.group.ends()))
        time.sleep(UNDER_LOAD_SECS)  # load, with the new shares


def held(daemon: Daemon) -> int:
    """How many partitions it has."""
    counts = [daemon.metric("kafka_rebalances_total", event=event) for event in ("assigned", "revoked", "lost")]
    return round(counts[0] - counts[1] - counts[2])


def share(first: Daemon, second: Daemon) -> None:
    """Wait until both have half."""
    until(lambda: held(first) == held(second) == PARTITIONS // 2, 20, lambda: f"{held(first)}, {held(second)}")


def take_all(daemon: Daemon) -> None:
    """Wait until it has everything."""
    until(lambda: held(daemon) == PARTITIONS, 20, lambda: held(daemon))


def test_law_1_and_2_two_replicas(apache: Broker, tmp_path: Path) -> None:
    topic = f"replicas-{SEED}"
    apache.create_topic(topic, PARTITIONS)
    files = [tmp_path / f"kept-{name}.jsonl" for name in "ab"]
    with OtlpSink() as sink:
        sink.usual = Reply(hang_secs=0.05)
        a, b = (
            Daemon(
                tmp_path / path.stem,
                settings(
                    apache.bootstrap,
                    topic,
                    kafka={"sessionTimeoutMs": SESSION_MS},
                    exporters=[
                        {"name": "file", "type": "file", "path": str(path), "batchTimeoutSecs": 0.1},
                        {"name": "sink", "type": "otlp", "endpoint": sink.url, "batchTimeoutSecs": 0.1},
                    ],
                ),
            )
            for path in files
        )
        with (
            daemons(a, b),
            Group.watch(apache, a.config, PARTITIONS) as group,
            Load(apache.bootstrap, topic, SEED) as load,
        ):
            fleet = Fleet(group)
            a.start()
            a.ready()
            take_all(a)
            with fleet.handover():  # one more joins
                b.start()
                b.ready()
                share(a, b)
            with fleet.handover():  # one leaves in order
                a.stop()
                take_all(b)
            with fleet.handover():
                a.start()
                a.ready()
                share(a, b)
            with fleet.handover():  # one is killed
                b.kill()
                take_all(a)
            with fleet.handover():
                b.start()
                b.ready()
                share(a, b)
            with fleet.handover():  # one stands still for longer than its session
                a.signal(signal.SIGSTOP)
                take_all(b)
            with fleet.handover():  # and goes on, with everything it had in hand
                a.signal(signal.SIGCONT)
                share(a, b)
            load.finish()
            group.wait_until_done(30, lambda: f"{a.tail()}\n\n{b.tail()}")
            assert a.said("partitions lost")
            a.stop()
            b.stop()
        arrived = (
            Arrived("files", Counter(span for path in files for span in file_spans(path))),
            Arrived("sink", sink.counts),
        )
        possible = [each.check(load, fleet.handovers) for each in arrived]
    print(
        f"\nseed {SEED}: {len(fleet.handovers)} handovers, {load.records} records, {len(load.traces)} traces, kept "
        f"{len(load.kept())} spans; duplicates of those that the commits explain: "
        + ", ".join(f"{each.name} {each.duplicates} of {most}" for each, most in zip(arrived, possible, strict=True))
    )
