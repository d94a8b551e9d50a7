"""Law 3 where producers' clocks are ahead or behind: what closes, and where, depends only on the records' order.

Also the proof that stream time cannot wait until later records confirm a timestamp. For every log there is a live
reading in which the wall clock has closed all that the largest timestamp makes ripe: records are never later than the
grace after the largest timestamp so far. A reader of the backlog must close the same, and cannot know which reading it
was. So at each record stream time is at least the largest timestamp so far (`on_the_heels`). The smallest example are
three records: `test_law_3_one_log_is_a_clock_ahead_or_a_late_producer`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate

import attrs
import pytest

from tests.core.spans import fragment, one_record, trace_id
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.decision import Decision, Reason, Verdict
from tss.core.memory import Memory
from tss.core.otlp import Fragment, Records
from tss.core.partition import Partition
from tss.core.streamtime import GRACE_MS

EPOCH_MS = 1_700_000_000_000
MUCH_LATER_MS = EPOCH_MS + 86_400_000
MAX_SKEW_MS = 300_000
REPLAY_SECS = 60
LIMITS = Limits(1 << 30, 1_000_000, 100_000, 100)
WAITS = Waits(root_quiet_ms=30_000, inactivity_ms=120_000, max_duration_ms=600_000)
DROPPED = Decision(Verdict.DROP, "rest", Reason.ROOT_QUIET, 0.0)


@attrs.frozen
class Written:
    """A record, and the moment (ms) from which on it can be read."""

    at_ms: int
    record: Records


@attrs.frozen
class Closing:
    """A trace has closed: after how many records of the partition, and with which spans."""

    trace_id: bytes
    after_records: int
    spans: int
    reason: Reason | None


# -- what is written: how far each record's timestamp is from the truth, in ms

WORLDS = {
    "single records ahead": lambda chance: _now_and_then(chance, 1, 1, 1),
    "runs of records ahead": lambda chance: _now_and_then(chance, 8, 15, 1),
    "one producer ahead": lambda chance: _a_share_of(chance, 0.3, 1),
    "one producer behind": lambda chance: _a_share_of(chance, 0.3, -1),
    "most producers behind": lambda chance: _a_share_of(chance, 0.8, -1),
    "single late records": lambda chance: _now_and_then(chance, 1, 1, -1),
    "late batches": lambda chance: _now_and_then(chance, 5, 20, -1),
}


def _now_and_then(chance: random.Random, least: int, most: int, sign: int) -> Iterator[int]:
    while True:
        yield from [0] * chance.randint(5, 40)
        skew_ms = sign * chance.randint(10_000, 290_000)
        yield from [skew_ms] * chance.randint(least, most)


def _a_share_of(chance: random.Random, share: float, sign: int) -> Iterator[int]:
    skew_ms = sign * chance.randint(10_000, 290_000)
    while True:
        yield skew_ms if chance.random() < share else 0


def log_of(world: str, seed: int) -> list[Written]:
    """One partition. A record may be late only while another with a newer timestamp covers it.

    Where none does, no rule decides alike: in a backlog nothing says how far the wall clock had come.
    """
    chance = random.Random(f"{world} {seed}")
    skews, gap_ms = WORLDS[world](chance), chance.choice([100, 1_000, 5_000, 20_000])
    now_ms, newest_ms, log, known = EPOCH_MS, 0, [], [0]
    for offset in range(250):
        now_ms += round(chance.expovariate(1 / gap_ms))
        stamp_ms = now_ms - chance.randint(0, GRACE_MS)
        skewed_ms = stamp_ms + next(skews)
        newest_ms = max(newest_ms, skewed_ms)
        if newest_ms < now_ms - GRACE_MS:
            newest_ms = skewed_ms = stamp_ms
        ids = [chance.choice(known[-6:])] if chance.random() < 0.6 else [len(known)]
        known += [id for id in ids if id == len(known)]
        pieces = tuple(_piece(id, offset, chance) for id in ids)
        log.append(Written(now_ms, one_record(0, offset, skewed_ms, pieces)))
    return log


def times_of(log: Sequence[Written]) -> list[int]:
    """The largest timestamp (ms) up to each record."""
    return [*accumulate([written.record.place(0)[2] for written in log], max)]


def _piece(id: int, number: int, chance: random.Random) -> Fragment:
    root = chance.random() < 0.6
    return fragment(id, (number + 1,), root=root, parents=() if root or chance.random() < 0.5 else (0,))


# -- who reads it


@attrs.define
class Reader:
    """Reads one partition, and drops each trace as soon as it has closed."""

    partition: Partition = attrs.field(factory=lambda: Partition(0, 0, MAX_SKEW_MS, replay_secs=REPLAY_SECS))
    buffer: Buffer = attrs.field(factory=lambda: Buffer(LIMITS, WAITS, Memory()))
    closings: list[Closing] = attrs.field(factory=list)
    next: int = 0  # offset

    def add(self, written: Written, wall_ms: int) -> None:
        self.buffer.add(self.partition, written.record, wall_ms)
        _, offset, _ = written.record.place(0)
        self._take(offset)
        self.next = offset + 1

    def reach(self, wall_ms: int) -> None:
        self.buffer.reach(self.partition, wall_ms)
        self._take(self.next)

    def _take(self, offset: int) -> None:
        for trace in self.buffer.take():
            assert not trace.late
            self.closings.append(Closing(trace.trace_id, offset, trace.spans, trace.reason))
            for each in self.buffer.decided(trace, DROPPED):
                self.buffer.settle(each)


def in_a_backlog(log: Sequence[Written]) -> list[Closing]:
    reader = Reader()
    for written in log:
        reader.add(written, MUCH_LATER_MS)
    reader.reach(MUCH_LATER_MS)
    return reader.closings


def live(log: Sequence[Written], chance: random.Random, reader: Reader | None = None, until_ms: int = 0) -> Reader:
    """Polls of some size at some distance; the end of the partition is seen whenever a poll has brought all there is.

    With ``until_ms`` the wall clock does not come further: then there is another record.
    """
    reader = reader or Reader()
    gap_ms = (log[-1].at_ms - log[0].at_ms) / len(log)
    most, wait_ms = chance.choice([1, 3, 1000]), round(gap_ms * chance.choice([0.4, 2, 10])) + 2
    now_ms, waiting = log[0].at_ms, [*log]
    while waiting:
        now_ms = min(now_ms + chance.randint(1, wait_ms), until_ms or MUCH_LATER_MS)
        polled = [written for written in waiting[:most] if written.at_ms <= now_ms]
        for written in polled:
            reader.add(written, now_ms)
        del waiting[: len(polled)]
        if not waiting or waiting[0].at_ms > now_ms:
            reader.reach(now_ms)
    return reader


def on_the_heels(log: Sequence[Written]) -> list[Closing]:
    """Live, with the wall clock just the grace after the largest timestamp: the latest that a record may come."""
    reader = Reader()
    for written, newest_ms in zip(log, times_of(log), strict=True):
        reader.reach(newest_ms + GRACE_MS)
        reader.add(written, newest_ms + GRACE_MS)
    reader.reach(MUCH_LATER_MS)
    return reader.closings


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(8))
def test_law_3_live_and_backlog_close_alike_whatever_the_clocks_say(world: str, seed: int) -> None:
    log, chance = log_of(world, seed), random.Random(seed)
    expected = in_a_backlog(log)
    assert len(expected) > 50
    for _ in range(3):
        reader = live(log, chance)
        reader.reach(MUCH_LATER_MS)
        assert reader.closings == expected
    assert on_the_heels(log) == expected


def test_law_3_one_log_is_a_clock_ahead_or_a_late_producer() -> None:
    """The timestamps are 0, 33 and 1 s; the first and the last record are of one trace, complete and quiet for 30 s.

    Either the second record's clock is ahead: the last came a second after the first, and should be of its trace.
    Or the last record was delayed by 32 s: then a live reader has closed the trace by the wall clock, before the second
    record was written. The log is the same, so a reader of the backlog has to close the trace in both cases.
    """
    log = [
        Written(
            EPOCH_MS + at_ms, one_record(0, offset, EPOCH_MS + stamp_ms, (fragment(id, (offset,), root=offset < 2),))
        )
        for offset, (at_ms, stamp_ms, id) in enumerate([(0, 0, 1), (33_000, 33_000, 2), (33_100, 1_000, 1)])
    ]
    late_producer = Reader()
    late_producer.add(log[0], EPOCH_MS)
    late_producer.reach(EPOCH_MS + 32_500)
    closed = [Closing(trace_id(1), 1, 1, Reason.ROOT_QUIET)]
    assert late_producer.closings == closed
    for written in log[1:]:
        late_producer.add(written, written.at_ms)
    late_producer.reach(MUCH_LATER_MS)
    assert in_a_backlog(log) == late_producer.closings
    assert late_producer.closings[:1] == closed


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(8))
def test_law_3_a_restart_closes_alike_whatever_the_clocks_say(world: str, seed: int) -> None:
    log, chance = log_of(world, seed), random.Random(seed)
    expected, times = in_a_backlog(log), times_of(log)
    for _ in range(3):
        stopped = chance.randrange(1, len(log))
        first = live(log[:stopped], chance, until_ms=log[stopped].at_ms)
        commit = first.partition.commit()
        again = Partition(0, commit.offset, MAX_SKEW_MS, replay_from=commit.replay_from, replay_secs=REPLAY_SECS)
        second = live(log[commit.replay_from :], chance, Reader(again))
        second.reach(MUCH_LATER_MS)
        # What ended before the seconds that a replay is for is not known any more, so its late spans are new traces.
        since_ms = times[min(commit.offset, len(log) - 1)] - 1000 * REPLAY_SECS
        forgotten = {each.trace_id for each in expected if times[each.after_records - 1] < since_ms}
        remembered, wanted = [
            [each for each in closings if each.trace_id not in forgotten] for closings in (second.closings, expected)
        ]
        assert remembered == wanted
