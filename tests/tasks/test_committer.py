"""Offsets: the low water, regularly, on revoke, and at the end whatever happens."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from tests.core.spans import fragment, record
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.errors import CannotCommit, LawBroken, StoppedAtOnce
from tss.core.memory import Memory
from tss.core.parked import Shelf
from tss.core.partition import Commit
from tss.core.startposition import StartPosition
from tss.core.trace import Trace
from tss.state.assignments import REVOKE_SECS, Assignments
from tss.state.crew import Crew
from tss.tasks import committer


class Broker:
    """Takes commits, or not."""

    def __init__(self) -> None:
        self.commits: list[tuple[float, dict[int, Commit]]] = []
        self.fails = 0
        self.hangs = False

    async def commit(self, commits: Mapping[int, Commit]) -> None:
        if self.hangs:
            await trio.sleep_forever()
        if self.fails:
            self.fails -= 1
            raise CannotCommit("REBALANCE_IN_PROGRESS")
        self.commits.append((trio.current_time(), dict(commits)))

    @property
    def offsets(self) -> list[tuple[float, int]]:
        return [(time, commit.offset) for time, commits in self.commits for commit in commits.values()]


class Rig:
    def __init__(self, *, commits: bool = True) -> None:
        self.meter, self.broker, self.stop = FakeMeter(), Broker(), trio.Event()
        self.stop.set()
        self.buffer = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(30_000, 30_000, 30_000), Memory())
        self.assignments = Assignments("t", self.buffer, self.meter, max_skew_ms=0, replay_secs=60, commits=commits)
        self.assignments.assigned({0: StartPosition(0, 0, committed=False)})
        self.crew: Crew | None = None
        self.settled, self._out = trio.open_memory_channel[list[Trace]](10)

    def close_traces(self, count: int) -> list[Trace]:
        """Read a record a trace, at second 100, and close all but the last."""
        (run,) = self.assignments.bind(record(0, 100.0))
        for number in range(count):
            self.buffer.add(run.partition, record(number, 100.0, fragment(number)), 10**9)
        self.buffer.reach(run.partition, 132_000)
        sampler = Sampler([])
        return [each for trace in self.buffer.take() for each in self.buffer.decided(trace, sampler.decide(trace))]

    async def run(self) -> None:
        parts = self._out, self.broker, self.assignments, self.buffer, self.meter
        crew = self.crew.ended if self.crew else None
        await committer.run(*parts, self.stop, interval_secs=5.0, last_commit_secs=2.0, upstream_ended=crew)


async def test_the_start_is_committed_even_before_anything_is_read(autojump_clock: MockClock) -> None:
    """Or a crash before the first commit would begin at the end again, past what came meanwhile."""
    rig = Rig()
    rig.settled.close()
    await rig.run()
    assert rig.broker.offsets == [(0.0, 0)]


async def test_law_1_the_low_water_is_committed_every_interval_and_at_the_end(autojump_clock: MockClock) -> None:
    rig = Rig()
    traces = rig.close_traces(4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await trio.sleep(1)
        await rig.settled.send(traces[1:2])
        await trio.sleep(5)
        await rig.settled.send(traces[0:1])
        await trio.sleep(10)
        await rig.settled.send(traces[3:])
        await rig.settled.send(traces[2:3])
        rig.settled.close()
    assert rig.broker.offsets == [(5.0, 0), (10.0, 2), (16.0, 4)]


async def test_a_failed_commit_is_made_up_for_by_the_next(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.broker.fails = 1
    traces = rig.close_traces(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.settled.send(traces)
        await trio.sleep(11)
        rig.settled.close()
    assert rig.broker.offsets == [(10.0, 1)]
    assert rig.meter.by_label(measures.COMMITS) == {("failed",): 1, ("ok",): 1}


async def test_law_9_the_last_commit_is_made_after_a_cancel_and_bounded(autojump_clock: MockClock) -> None:
    for hangs in (False, True):
        rig = Rig()
        traces = rig.close_traces(1)
        began = trio.current_time()
        with trio.move_on_after(1):
            rig.settled.send_nowait(traces)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.run)
                await trio.sleep(0.5)
                rig.broker.hangs = hangs
        assert [offset for _, offset in rig.broker.offsets] == ([] if hangs else [1])
        assert trio.current_time() - began == (3.0 if hangs else 1.0)


async def test_law_1_a_task_that_dies_takes_the_last_commit_with_it(autojump_clock: MockClock) -> None:
    """What it left behind may be wrong: an offset settled more often than held, say."""
    rig = Rig()
    rig.stop = trio.Event()  # nobody has asked for a stop
    rig.settled.send_nowait(rig.close_traces(1))
    with pytest.RaisesGroup(LawBroken):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            await trio.sleep(1)
            raise LawBroken("law 1 would break")
    assert rig.broker.commits == []
    assert await rig.assignments.revoked([0]) == {}


async def _works(rig: Rig, how: str) -> None:
    """A task upstream of the committer, during a stop."""
    with rig.settled:
        await trio.sleep(1)
        if how == "dies":
            raise LawBroken("law 1 would break")
        if how == "dies in a nursery of its own":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                rig.settled.close()  # the committer hears this end first
                await trio.lowlevel.checkpoint()
                raise LawBroken("law 1 would break")
        if how == "is told to hurry":
            raise StoppedAtOnce("SIGTERM")
        if how == "hangs":
            with trio.CancelScope(shield=True):
                await trio.sleep(60)
        if how == "is cancelled":
            await trio.sleep_forever()


@pytest.mark.parametrize(
    ("how", "commits"),
    [("ends", 1), ("is cancelled", 1), ("dies", 0), ("dies in a nursery of its own", 0), ("hangs", 0)],
)
async def test_law_1_a_task_that_dies_during_a_stop_takes_the_last_commit_with_it(
    how: str, commits: int, autojump_clock: MockClock
) -> None:
    """What is committed rests on its bookkeeping. A task that the stop's deadline cancels has ended in order."""
    rig = Rig()
    rig.settled.send_nowait(rig.close_traces(1))
    crew = rig.crew = Crew()
    crew.on_death(rig.assignments.distrust)
    assert rig.stop.is_set()
    try:
        with trio.move_on_after(2):
            async with trio.open_nursery() as nursery:
                crew.work(nursery, "exporter", _works, rig, how)
                nursery.start_soon(rig.run)
    except* LawBroken:
        assert "dies" in how
    assert len(rig.broker.commits) == commits
    assert len(await rig.assignments.revoked([0])) == commits  # leaving the group commits, too


@pytest.mark.parametrize("how", ["dies", "dies in a nursery of its own", "is cancelled", "is told to hurry"])
@pytest.mark.parametrize("early", [True, False])
async def test_law_1_so_does_a_task_of_the_house(how: str, early: bool, autojump_clock: MockClock) -> None:
    """Such as the web server, or whoever looks after the topic's retention. It may die before the selection begins."""
    rig = Rig()
    rig.settled.send_nowait(rig.close_traces(1))
    crew = Crew()
    if not early:
        crew.on_death(rig.assignments.distrust)
    with suppress(LawBroken, ExceptionGroup, StoppedAtOnce), trio.move_on_after(2):
        await crew.watch(partial(_works, rig), how)
    if early:
        crew.on_death(rig.assignments.distrust)
    rig.settled.close()
    await rig.run()
    assert len(rig.broker.commits) == ("dies" not in how)


async def test_a_task_of_the_house_says_when_it_has_started(autojump_clock: MockClock) -> None:
    async def serve(port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started(port)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        assert await nursery.start(Crew().watch, serve, 8080) == 8080
        nursery.cancel_scope.cancel()


def test_the_start_is_what_is_committed_at_once() -> None:
    rig = Rig()
    starts = {1: StartPosition(7, 7, committed=False), 2: StartPosition(9, 3, committed=True)}
    assert rig.assignments.assigned(starts) == {1: Commit(7, 7)}
    assert rig.assignments.assigned({}) == {}


async def test_a_rehearsal_commits_nothing(autojump_clock: MockClock) -> None:
    rig = Rig(commits=False)
    rig.settled.send_nowait(rig.close_traces(2))
    rig.settled.close()
    await rig.run()
    assert rig.broker.commits == []
    assert await rig.assignments.revoked([0]) == {}


async def test_law_1_a_revoke_waits_for_what_is_in_flight_but_not_for_ever(autojump_clock: MockClock) -> None:
    rig = Rig()
    first, second = rig.close_traces(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)

        async def deliver_later() -> None:
            await trio.sleep(3)
            await rig.settled.send([first])

        nursery.start_soon(deliver_later)
        began = trio.current_time()
        commits = await rig.assignments.revoked([0])
        assert trio.current_time() - began == REVOKE_SECS
        assert commits[0].offset == 1  # the first has arrived, the second is read again by the next owner
        await rig.settled.send([second])
        rig.settled.close()
    assert rig.meter.by_label(measures.REBALANCES) == {("assigned",): 1, ("revoked",): 1}


async def test_lost_partitions_are_not_committed(autojump_clock: MockClock) -> None:
    rig = Rig()
    traces = rig.close_traces(1)
    rig.assignments.lost([0])
    rig.settled.send_nowait(traces)
    rig.settled.close()
    await rig.run()
    assert rig.broker.commits == []


def test_law_1_a_partition_is_gone_however_it_went() -> None:
    """Whoever still has something of it in hand looks at this before it sends or commits that."""
    rig = Rig()
    rig.assignments.assigned({1: StartPosition(0, 0, committed=False)})
    mine, other = rig.assignments
    assert not mine.gone and not other.gone
    rig.assignments.lost([0])
    assert mine.gone and not other.gone


def test_law_1_a_partition_that_is_read_again_from_earlier_is_another() -> None:
    rig = Rig()
    before = rig.assignments.bind(record(0, 100.0))[0].partition
    before.ledger.read(0)
    after = rig.assignments.bind(record(0, 100.0))[0].partition
    assert before.gone and not after.gone and after is not before


async def test_law_4_what_came_less_what_went_is_what_a_replica_has() -> None:
    """Not so where a partition that stays is taken up anew: nothing came then, and nothing went."""
    rig = Rig()

    def has() -> float:
        counted = rig.meter.by_label(measures.REBALANCES)
        return counted["assigned",] - counted.get(("revoked",), 0) - counted.get(("lost",), 0)

    rig.assignments.assigned({1: StartPosition(0, 0, committed=False), 2: StartPosition(0, 0, committed=False)})
    before = rig.assignments.bind(record(0, 100.0))[0].partition
    before.ledger.read(0)
    rig.assignments.bind(record(0, 100.0))  # from an earlier offset
    assert has() == len(rig.assignments) == 3
    rig.assignments.assigned({1: StartPosition(0, 0, committed=False, topic="another", anew=True)})
    assert has() == 3
    rig.assignments.lost([0])
    await rig.assignments.revoked([1])
    assert has() == len(rig.assignments) == 1
    rig.assignments.assigned({0: StartPosition(0, 0, committed=False, topic="another", anew=True)})
    assert has() == len(rig.assignments) == 2


@pytest.mark.parametrize("parks", [False, True])
async def test_law_1_an_answer_is_about_the_assignment_it_was_asked_under(parks: bool) -> None:
    """A partition goes and comes back while its commit is under way: what Kafka has of it now is in its new start."""
    rig = Rig()
    for end in (rig.assignments.lost, rig.assignments.revoked):
        rig.assignments.lost([0])
        rig.assignments.assigned({0: StartPosition(7, 7, committed=False, shelf=Shelf("first") if parks else None)})
        due = rig.assignments.due()
        assert due[0].offset == 7
        ended = end([0])
        if ended is not None:
            await ended
        start = StartPosition(3, 3, committed=True, shelf=Shelf("second") if parks else None)
        rig.assignments.assigned({0: start})
        rig.assignments.committed(due)
        (partition,) = rig.assignments
        assert (partition.committed, partition.committed_place) == (3, None)
        rig.assignments.committed(rig.assignments.due())
        assert partition.committed == 3 and rig.assignments.due() == {}


def test_law_1_an_answer_that_counts_on_what_redis_has_lost_meanwhile_is_none() -> None:
    rig = Rig()
    rig.assignments.lost([0])
    rig.assignments.assigned({0: StartPosition(7, 7, committed=False, shelf=Shelf("first"))})
    (partition,) = rig.assignments
    due = rig.assignments.due()
    rig.assignments.reread(partition, "lost")
    assert partition.shelf is None
    rig.assignments.committed(due)
    assert partition.committed is None
    assert rig.assignments.due() == {0: Commit(7, 7)}, "now without what is not there any more"


async def test_what_is_uncommitted_is_shown_as_it_is_and_not_as_it_was_at_the_last_commit(
    autojump_clock: MockClock,
) -> None:
    rig = Rig()
    name, labels = measures.UNCOMMITTED.name, ("t", "0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await trio.sleep(5.5)  # a commit has passed, the next is far
        shown = rig.meter.watched[name, labels]
        assert shown() == 0
        traces = rig.close_traces(4)
        assert shown() == 4
        await rig.settled.send(traces[:3])
        await trio.sleep(1)
        assert shown() == 1
        rig.settled.close()
    await rig.assignments.revoked([0])
    assert (name, labels) not in rig.meter.watched
