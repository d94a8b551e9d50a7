"""A change of the policies, the commit that names it, and the decisions that wait for that commit."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.spans import fragment, record
from tests.fakes.meter import FakeMeter
from tests.rulesets import ruleset, rulesets
from tests.tasks.test_committer import Broker
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.decision import Decision
from tss.core.judging import Judge
from tss.core.memory import Memory
from tss.core.partition import Partition
from tss.core.policies.rest import Rest
from tss.core.ruleset import Change
from tss.core.startposition import StartPosition
from tss.core.trace import Trace
from tss.state.assignments import Assignments
from tss.tasks import committer, evaluator
from tss.tasks.evaluator import Deciding

OTHER = ruleset(Sampler([Rest(0.0)]), "b")


class Rig:
    """A partition whose traces close one second after their last span, first by a ruleset with this rate."""

    def __init__(self, start: StartPosition | None = None, rate: float = 1.0) -> None:
        self.meter, self.broker = FakeMeter(), Broker()
        self.rulesets = rulesets(Sampler([Rest(rate)]))
        self.buffer = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(1_000, 1_000, 10**9), Memory())
        self.assignments = Assignments(
            "t", self.buffer, self.meter, max_skew_ms=0, replay_secs=60, commits=True, rulesets=self.rulesets,
            wall_secs=lambda: 0,
        )  # fmt: skip
        self.assignments.assigned({0: start or StartPosition(0, 0, committed=False, end=0)})
        self.assignments.committed(self.assignments.due())
        self.closed, self._closed = trio.open_memory_channel[list[Trace]](10)
        self._kept, self.kept = trio.open_memory_channel[list[Trace]](10)
        self._settled, self.settled = trio.open_memory_channel[list[Trace]](10)
        judge = Judge(self.buffer, self.rulesets.choose)
        self.deciding = Deciding(self._kept, self._settled, judge, self.rulesets, self.buffer, (), self.meter)

    @property
    def home(self) -> Partition:
        (home,) = self.assignments
        return home

    def read(self, number: int, at_secs: float) -> None:
        """One span of a trace of its own."""
        (run,) = self.assignments.bind(record(number, at_secs))
        self.buffer.add(run.partition, record(number, at_secs, fragment(number)), 10**15)

    def change(self) -> None:
        self.rulesets.accept(OTHER, Change(OTHER.fingerprint, 2, 0.0))

    async def commit(self) -> None:
        stop = trio.Event()
        stop.set()
        parts = self.settled, self.broker, self.assignments, self.buffer, self.meter, stop
        await committer.run(*parts, interval_secs=5.0, last_commit_secs=1.0)

    def decisions(self) -> list[Decision | None]:
        found: list[Decision | None] = []
        for end in (self.kept, self.settled):
            try:
                while True:
                    found += [trace.decision for trace in end.receive_nowait()]
            except trio.WouldBlock:
                pass
        return found


async def test_a_change_is_committed_at_once(autojump_clock: MockClock) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.commit)
        await trio.sleep(6)
        rig.read(0, 100)
        rig.change()
        await trio.sleep(0.1)
        at_secs, commits = rig.broker.commits[-1]
        assert at_secs == 6.0 and commits[0].rules[-1][1] == OTHER.fingerprint
        assert not rig.assignments.is_awaited
        nursery.cancel_scope.cancel()


async def test_what_closes_under_the_new_rules_waits_for_the_commit_and_nothing_else_does(
    autojump_clock: MockClock,
) -> None:
    """Decided before, a kill -9 would let the next owner decide by the old rules."""
    rig = Rig()
    rig.read(0, 100)
    rig.change()
    second = rig.home.ruled_to
    rig.read(1, second - 2.5)
    rig.read(2, second + 1)
    rig.read(3, second + 9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(evaluator.run, rig._closed, rig.deciding)
        for trace in rig.buffer.take():
            await rig.closed.send([trace])
        await wait_all_tasks_blocked()
        assert [each.ruleset for each in rig.decisions() if each] == ["a" * 16] * 2
        due = rig.assignments.due()
        rig.assignments.committed(due)
        await wait_all_tasks_blocked()
        assert [(each.ruleset, each.keeps) for each in rig.decisions() if each] == [(OTHER.fingerprint, False)]
        nursery.cancel_scope.cancel()


async def test_law_9_what_waits_on_a_partition_that_is_revoked_is_left_to_its_next_owner(
    autojump_clock: MockClock,
) -> None:
    rig = Rig(rate=0.0)
    rig.read(0, 100)
    rig.change()
    second = rig.home.ruled_to
    rig.read(1, second + 1)
    rig.read(2, second + 9)
    home = rig.home
    async with trio.open_nursery() as nursery:
        nursery.start_soon(evaluator.run, rig._closed, rig.deciding)
        await rig.closed.send(rig.buffer.take())
        await wait_all_tasks_blocked()
        assert rig.decisions() == []
        with trio.fail_after(1):
            nursery.start_soon(rig.commit)
            commits = await rig.assignments.revoked([0])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert home.in_flight == 0 and rig.buffer.closed_bytes == 0
    assert commits[0].offset == 1, "what was not decided is read again"


async def test_unknown_rules_give_no_new_verdict_and_are_counted() -> None:
    rig = Rig(StartPosition(5, 0, committed=True, end=9, rules=((0, "f" * 16),)))
    rig.read(0, 100)
    rig.read(6, 103)
    rig.buffer.reach(rig.home, 200_000)
    await rig.deciding.decide(rig.buffer.take(), None)
    found = [each for each in rig.decisions() if each]
    assert sorted((each.policy, each.keeps) for each in found) == [("default", True), ("unknown_rules", False)]
    assert rig.meter.by_label(measures.UNKNOWN_RULES) == {("rules",): 1}
