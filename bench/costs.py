"""What Redis costs: runs of the daemon with it and without it, in turn, in the three situations that there are.

*live*: what is read came after the partitions were assigned, so that nobody else can have read it. (The daemon stands
still while the topic is filled.) *new group*: it was there before, and nobody has read it. *killed*: somebody has read
half of it and was killed; measured is the one that goes on.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attrs import frozen

from bench.corpus import Corpus
from bench.daemon import LOOK_SECS, Daemon, run_tss
from bench.processes import BenchFailed
from bench.runs import Start
from bench.sink import sinking
from bench.topic import Topic
from tests.real.brokers import Broker
from tests.real.redis_server import RedisServer

HEAD = (
    f"{'corpus':>13} {'situation':>10} {'us a record: without':>21} {'with Redis':>11} {'throughput of that without':>27} "
    f"{'each time':>11} {'twice':>13}"
)


@frozen
class Taken:
    """What one run took."""

    micros_per_record: float
    twice: int = 0  # spans that arrived more than once


Situation = Callable[[Broker, Path, Corpus, int, str], Taken]


@frozen
class Cost:
    """Of one corpus in one situation: the runs without and with Redis, in turn."""

    corpus: Corpus
    situation: str
    pairs: Sequence[tuple[Taken, Taken]]

    def __str__(self) -> str:
        without, beside = zip(*self.pairs, strict=True)
        shares = sorted(one.micros_per_record / other.micros_per_record for one, other in self.pairs)
        micros = [statistics.median(each.micros_per_record for each in some) for some in (without, beside)]
        twice = [max(each.twice for each in some) for some in (without, beside)]
        return (
            f"{self.corpus!s:>13} {self.situation:>10} {micros[0]:>21.2f} {micros[1]:>11.2f} "
            f"{micros[0] / micros[1]:>27.1%} {shares[0]:>6.0%}-{shares[-1]:.0%} {twice[0]:>6}/{twice[1]:<6}"
        )


def measure(
    broker: Broker, server: RedisServer, directory: Path, corpus: Corpus, records: int, repeat: int
) -> Iterator[Cost]:
    """Each situation ``repeat`` times without and with."""
    for name, situation in _SITUATIONS.items():
        pairs = []
        for _ in range(repeat):
            server.flush()
            without, beside = (situation(broker, directory, corpus, records, url) for url in ("", server.url))
            pairs.append((without, beside))
        yield Cost(corpus, name, pairs)


def _live(broker: Broker, directory: Path, corpus: Corpus, records: int, redis: str) -> Taken:
    empty = Topic.empty(broker, f"spans-{time.monotonic_ns()}", corpus)
    with (
        sinking(directory) as (sink, taken),
        Daemon.running(empty, sink, directory, redis=redis, patience_ms=60_000) as daemon,
    ):
        daemon.child.wait_until(daemon.is_ready, "ready")
        daemon.child.process.send_signal(signal.SIGSTOP)
        topic = empty.fill(records)
        start = Start(daemon.child, time.monotonic(), 0.0, daemon.child.cpu_secs())
        daemon.child.process.send_signal(signal.SIGCONT)
        daemon.child.wait_until(lambda: not topic.uncommitted(daemon.group), "committed", LOOK_SECS)
        run = start.run(topic, time.monotonic())
        if amiss := taken.amiss(topic.kept):
            raise BenchFailed(amiss)
    _remove(topic)
    return Taken(run.micros_per_record)


def _new_group(broker: Broker, directory: Path, corpus: Corpus, records: int, redis: str) -> Taken:
    topic = Topic.filled(broker, f"spans-{time.monotonic_ns()}", corpus, records)
    run = run_tss(topic, directory, redis=redis)
    _remove(topic)
    return Taken(run.micros_per_record)


def _killed(broker: Broker, directory: Path, corpus: Corpus, records: int, redis: str) -> Taken:
    topic = Topic.filled(broker, f"spans-{time.monotonic_ns()}", corpus, records)
    with sinking(directory) as (sink, taken):
        with Daemon.running(topic, sink, directory, redis=redis) as daemon:
            group = daemon.group
            daemon.child.wait_until(daemon.is_ready, "ready", 0.005)
            # Something is committed, and half of it is read.
            daemon.child.wait_until(lambda: daemon.metric("kafka_records_read_total") >= records / 2, "half", 0.005)
        left = topic.uncommitted(group)
        with Daemon.running(topic, sink, directory, redis=redis, group=group) as daemon:
            start = Start.of(daemon.child, daemon.is_ready)
            daemon.child.wait_until(lambda: not topic.uncommitted(group), "committed", LOOK_SECS)
            cpu_secs = daemon.child.cpu_secs() - start.cpu_secs
        taken.look()
        if missing := len(topic.kept - taken.spans):
            raise BenchFailed(f"{missing} spans are missing")
    _remove(topic)
    return Taken(1e6 * cpu_secs / left, taken.total - len(taken.spans))


def _remove(topic: Topic) -> None:
    admin = topic.broker.admin()  # held: what it is asked dies with it
    admin.delete_topics([topic.name])[topic.name].result(30)


_SITUATIONS: dict[str, Situation] = {"live": _live, "new group": _new_group, "killed": _killed}
