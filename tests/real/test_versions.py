"""Versions that live together: a replica of an older version and one of this, in one group, with one Redis.

The older one is the last commit before facts and conditions. Its source comes from git's history and is interpreted, so
nothing is built. In a clone without that history the test is skipped. What the older version reads and writes is also in
the golden bytes of `tests/core/test_parked.py` and `tests/core/test_shared_decisions.py`.
"""

from __future__ import annotations

import subprocess
from itertools import chain
from pathlib import Path

import pytest

from tests.real.brokers import ROOT, Broker
from tests.real.daemon import Daemon, daemons, settings, until
from tests.real.load import Load
from tests.real.redis_server import running
from tests.real.test_lifecycle import BRIEF, to_sink
from tests.real.test_replicas import share, take_all
from tests.sinks import OtlpSink, Reply

pytestmark = pytest.mark.alone

BEFORE = "7aa0e1c9412f29b9c7ad3caea611d4d5ba3ec37c"
PARTITIONS = 4
PARKINGS = 10  # of each, before one is killed: nearly all open traces are in Redis then
SESSION_MS = 1000


def older(directory: Path) -> Path:
    """The package of the older version, in a directory of its own."""
    git = ["git", "-C", str(ROOT), "archive", BEFORE, "tss"]
    found = subprocess.run(git, capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"the history has no {BEFORE[:7]}: {found.stderr.decode().strip()}")
    directory.mkdir()
    subprocess.run(["tar", "-x", "-C", str(directory)], input=found.stdout, check=True)
    return directory


def test_law_1_and_2_an_older_and_this_version_take_over_from_each_other(apache: Broker, tmp_path: Path) -> None:
    source = older(tmp_path / "older")
    apache.create_topic("versions", PARTITIONS)
    with running() as redis, OtlpSink() as sink:
        sink.usual = Reply(hang_secs=0.05)  # so that there is always something on its way
        configs = [
            settings(
                apache.bootstrap,
                "versions",
                app={"parkAfterSecs": 0.3},
                kafka={"sessionTimeoutMs": SESSION_MS},
                redis={"url": redis.url},
                exporters=to_sink(sink),
            )
            for _ in range(2)
        ]
        before = Daemon(tmp_path / "before", configs[0], {"PYTHONPATH": str(source)})
        now = Daemon(tmp_path / "now", configs[1])
        told = list[str]()
        with (
            daemons(before, now),
            Load(apache.bootstrap, "versions", 1, BRIEF) as load,
        ):
            before.start()
            before.ready()
            for joins, killed, stays in ((now, before, now), (before, now, before)):
                joins.start()
                joins.ready()
                share(before, now)
                for each in (before, now):
                    until(lambda each=each: each.metric("parkings_total") > PARKINGS, 20, each.tail)  # type: ignore[misc]
                replayed = stays.metric("kafka_records_replayed_total")
                killed.kill()
                take_all(stays)
                until(lambda each=stays: each.metric("unparkings_total") > 0, 20, stays.tail)  # type: ignore[misc]
                replayed = stays.metric("kafka_records_replayed_total") - replayed
                told.append(f"{stays.directory.name} took over, and read {replayed:.0f} records again")
                assert stays.metric("partitions_reread_total") == 0, "read again from the floor"
            load.finish()
            # What is parked is committed, too, so the commits do not say that all is decided.
            open_now = "parked_traces", "buffer_traces_current", "kafka_uncommitted_records"
            until(lambda: not sum(map(before.metric, open_now)), 40, before.tail)
            before.stop()
        scanner = {line.get("scanner") for each in (before, now) for line in each.all_logs} - {None}
        for line in chain(before.all_logs, now.all_logs):
            assert line["level"] not in ("error", "critical"), line
        lost, wrong = load.kept() - sink.counts.keys(), sink.counts.keys() - load.kept()
        assert not lost, f"law 1: {len(lost)} spans"
        assert not wrong, f"law 2: {len(wrong)} spans"
        twice = sink.counts.total() - len(sink.counts)
        print(f"\n{'; '.join(told)}; {len(load.kept())} spans kept, {twice} of them sent twice; scanners {scanner}")
        assert max(sink.counts.values()) <= 3
