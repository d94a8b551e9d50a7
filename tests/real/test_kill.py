"""Laws 1 and 2 on the real thing: `kill -9` at thirty random moments under load, and nothing is lost or judged twice."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from statistics import median

import attrs
import pytest

from tests.real.brokers import Broker
from tests.real.daemon import Daemon, Group, file_spans, settings, until
from tests.real.load import Load, Place, SpanId
from tests.sinks import OtlpSink, Reply

pytestmark = pytest.mark.alone

KILLS = 30
PARTITIONS = 4
SEED = int(os.environ.get("KILL_SEED", "1"))


@attrs.frozen
class Kill:
    """What could be read again after one kill: by partition, from the committed offset up to the end of the log."""

    committed: Mapping[int, int]
    ends: Mapping[int, int]

    def covers(self, place: Place) -> bool:
        partition, offset = place
        return self.committed[partition] <= offset < self.ends[partition]


@attrs.frozen
class Arrived:
    """What one destination got, against what it should have."""

    name: str
    counts: Counter[SpanId]

    @property
    def duplicates(self) -> int:
        return self.counts.total() - len(self.counts)

    def check(self, load: Load, kills: Iterable[Kill]) -> int:
        """Returns how many spans might have come more than once, given the commits at each kill."""
        kept = load.kept()
        lost, wrong = kept - self.counts.keys(), self.counts.keys() - kept
        assert not lost, f"{self.name}: law 1: {len(lost)} spans lost of {_traces(lost)} traces, as {_first(lost)}"
        assert not wrong, (
            f"{self.name}: law 2: {len(wrong)} spans of {_traces(wrong)} dropped traces, as {_first(wrong)}"
        )
        places = load.places()
        assert len(set(places.values())) == load.records
        # Once, and once more for each kill after which its record was to be read again.
        allowed = {span: 1 + sum(kill.covers(places[span]) for kill in kills) for span in self.counts}
        unexplained = {span: (count, allowed[span]) for span, count in self.counts.items() if count > allowed[span]}
        assert not unexplained, f"{self.name}: duplicates that no kill explains: {[*unexplained.items()][:3]}"
        return sum(allowed.values()) - len(allowed)


def _traces(spans: Iterable[SpanId]) -> int:
    return len({trace for trace, _ in spans})


def _first(spans: Iterable[SpanId]) -> tuple[str, ...]:
    return tuple(part.hex() for part in next(iter(spans)))


def test_law_1_and_2_thirty_kills(apache: Broker, tmp_path: Path) -> None:
    began = time.monotonic()
    chance = Random(SEED)
    topic = f"kill-{SEED}"
    apache.create_topic(topic, PARTITIONS)
    kept = tmp_path / "kept.jsonl"
    with OtlpSink() as sink:
        sink.usual = Reply(hang_secs=0.05)  # so that there is always something on its way
        config = settings(
            apache.bootstrap,
            topic,
            kafka={"sessionTimeoutMs": 1000},  # a killed member's partitions are free when its session ends
            exporters=[
                {"name": "file", "type": "file", "path": str(kept), "batchTimeoutSecs": 0.1},
                {"name": "sink", "type": "otlp", "endpoint": sink.url, "batchTimeoutSecs": 0.1},
            ],
        )
        kills: list[Kill] = []
        ready: list[float] = []
        with Group.watch(apache, config, PARTITIONS) as group, Load(apache.bootstrap, topic, SEED) as load:
            daemon = Daemon(tmp_path / "daemon", config)
            with daemon:
                while len(kills) < KILLS:
                    if chance.random() < 0.2:  # in the middle of starting
                        moment = time.monotonic() + chance.uniform(0.1, 2.0)
                    else:
                        ready.append(daemon.ready())
                        moment = time.monotonic() + chance.uniform(0, 2.5)
                    until(lambda: time.monotonic() >= moment, 10)  # noqa: B023  # asked before it changes
                    assert daemon.running, daemon.tail()
                    daemon.kill()
                    kills.append(Kill(group.committed(), group.ends()))
                    daemon.start()
                ready.append(daemon.ready())
                load.finish()
                group.wait_until_done(30, daemon.tail)
                stop_secs = daemon.stop()
        arrived = Arrived("file", Counter(file_spans(kept))), Arrived("sink", sink.counts)
        possible = [each.check(load, kills) for each in arrived]
    duplicates = [f"{each.name} {each.duplicates} of {most}" for each, most in zip(arrived, possible, strict=True)]
    print(
        f"\nseed {SEED}: {len(kills)} kills in {time.monotonic() - began:.0f} s, {load.records} records, "
        f"{len(load.traces)} traces ({sum(trace.late for trace in load.traces)} with late spans), "
        f"{len(load.places())} spans, kept {_traces(load.kept())} traces, {len(load.kept())} spans; "
        f"duplicates of those that the commits explain: {', '.join(duplicates)}; start to ready "
        f"{min(ready):.2f} / {median(ready):.2f} / {max(ready):.2f} s (session of the killed one included), "
        f"stop {stop_secs:.2f} s"
    )
    assert all(each.duplicates <= most for each, most in zip(arrived, possible, strict=True))
