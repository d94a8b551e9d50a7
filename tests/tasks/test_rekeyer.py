"""The first stage over a source and a topic that are lists: each record once, whatever the topic answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.core.spans import batch, fragment, one_record
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.alignment import WAITING_BYTES, Alignment, ReadRecord
from tss.core.deadletter import DeadLetter
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Undeliverable
from tss.core.errors import WrongSetting
from tss.core.headers import UNREADABLE_HEADERS, Headers
from tss.core.health import Health, State
from tss.core.otlp import Records
from tss.core.polled import Polled
from tss.core.startposition import StartPosition
from tss.state.inputs import Inputs
from tss.tasks import rekeyer

WALL = 10**12
HEADERS = (("a", b"1"),)


def record(offset: int, partition: int = 0) -> Records:
    return one_record(partition, offset, 1000 + offset, (fragment(offset + 1), fragment(offset + 500)))


class World:
    """A source of one partition, a topic with answers to come, and what was written."""

    def __init__(self, records: Sequence[Records], answers: Sequence[Outcome] = ()) -> None:
        self.meter, self.health = FakeMeter(), Health()
        self.letters: FakeDeadLetters = FakeDeadLetters()
        self.polls = self.pauses = 0
        self.inputs = Inputs("in", Alignment(1000), self.meter)
        self.inputs.assigned({0: StartPosition(0, 0, committed=True)})
        self.stop = trio.Event()
        self.records = [*records]
        self.broken: list[DeadLetter] = []
        self.paused = self.finished = False
        self.held: set[int] = set()
        self.answers = [*answers]
        self.written: list[tuple[list[int], Mapping[int, int]]] = []
        self.on_answer: Callable[[Outcome], object] = lambda _: None
        self.poison: int | None = None
        self.made = 0
        self.make_fails = False
        self.headers: Headers = HEADERS
        self.most = 100

    async def poll(self) -> Polled:
        await trio.sleep(0.1)
        self.polls += 1
        if self.paused:
            return Polled(WALL)
        now, self.records = self.records[: self.most], self.records[self.most :]
        letters, self.broken = self.broken, []
        if not now and not self.answers:
            self.stop.set()
        return Polled(WALL, batch(now), letters, headers=[self.headers] * len(now))

    async def pause(self) -> None:
        await trio.lowlevel.checkpoint()
        self.paused = True
        self.pauses += 1

    async def resume(self) -> None:
        await trio.lowlevel.checkpoint()
        self.paused = False

    async def hold(self, ids: Collection[int]) -> None:
        await trio.lowlevel.checkpoint()
        self.held = {*ids}

    def finish(self) -> None:
        self.finished = True

    async def make(self) -> str:
        await trio.lowlevel.checkpoint()
        self.made += 1
        if self.make_fails:
            raise WrongSetting("not allowed")
        return ""

    async def write(self, reads: Sequence[ReadRecord], ends: Mapping[int, int]) -> Outcome:
        await trio.sleep(0.01)
        assert all(read.headers == self.headers for read in reads)
        answer: Outcome = self.answers.pop(0) if self.answers else Accepted()
        if any(read.offset == self.poison and read.pieces for read in reads):
            answer = Undeliverable("too_large", "no room")
        if isinstance(answer, Accepted):
            self.written.append(([read.offset for read in reads if read.pieces], ends))
        self.on_answer(answer)
        return answer

    async def run(self) -> None:
        await rekeyer.run(self, self.inputs, self, self.letters, self.stop, self.meter, self.health, random.Random(0))

    @property
    def offsets(self) -> list[int]:
        return [offset for offsets, _ in self.written for offset in offsets]


async def test_each_record_is_written_once_with_the_offset_after_it(autojump_clock: MockClock) -> None:
    world = World([record(offset) for offset in range(250)])
    await world.run()
    assert world.offsets == [*range(250)]
    assert [ends for _, ends in world.written] == [{0: 100}, {0: 200}, {0: 250}]
    assert world.finished
    assert world.meter.counted(measures.REKEY_RECORDS) == 250
    assert world.meter.counted(measures.REKEY_FRAGMENTS) == 500
    assert world.health.components["rekey"].state is State.UP


async def test_what_was_not_taken_is_tried_again_while_reading_pauses(autojump_clock: MockClock) -> None:
    world = World([record(0), record(1)], [Again("a", "b")] * 5)
    seen: list[State] = []
    world.on_answer = lambda _: seen.extend(each.state for each in world.health.components.values())
    await world.run()
    assert world.offsets == [0, 1]
    assert State.DOWN in seen
    assert not world.paused
    assert world.health.components["rekey"].state is State.UP
    assert world.meter.by_label(measures.REKEY_TRANSACTIONS)["failed",] == 5


async def test_misconfigured_is_said_at_once(autojump_clock: MockClock) -> None:
    world = World([record(0)], [Misconfigured("acl", "no")] * 2)
    seen: list[State] = []
    world.on_answer = lambda _: seen.extend(each.state for each in world.health.components.values())
    await world.run()
    assert seen[0] is State.DOWN
    assert world.offsets == [0]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_topic_that_is_gone_is_made_again(autojump_clock: MockClock, fails: bool) -> None:
    world = World(
        [record(0)], [Misconfigured("unknown_topic_or_part", "gone"), Again("a", "b"), Misconfigured("acl", "")]
    )
    world.make_fails = fails
    with capture_logs() as logs:
        await world.run()
    assert (world.made, world.offsets) == (1, [0])
    assert any("could not be made again" in line["event"] and line["reason"] == "not allowed" for line in logs) is fails


async def test_what_went_to_another_meanwhile_is_not_written(autojump_clock: MockClock) -> None:
    world = World([record(0), record(1)], [Again("group_moved", "")])
    world.on_answer = lambda _: world.inputs.lost([0])
    await world.run()
    assert world.written == []


async def test_law_4_what_no_record_can_hold_is_put_aside_alone_and_the_rest_goes_on_in_order(
    autojump_clock: MockClock,
) -> None:
    world = World([record(offset) for offset in range(20)])
    world.poison = 13
    with capture_logs() as lines:
        await world.run()
    told = [line for line in lines if "could not be split by trace and were dead-lettered" in line["event"]]
    assert [(line["count"], line["reason"], line["offset"]) for line in told] == [(1, "too_large", 13)]
    assert world.offsets == [offset for offset in range(20) if offset != 13]
    assert [letter.offset for letter in world.letters.letters] == [13]
    (letter,) = world.letters.letters
    assert (letter.reason, letter.partition, letter.topic) == ("too_large", 0, "in")
    assert letter.payload == b"".join(each.payload for each in record(13).fragments(0))
    ends = [ends[0] for _, ends in world.written]
    assert ends == sorted(ends) and ends[-1] == 20
    assert world.meter.by_label(measures.UNREADABLE) == {("too_large",): 1}


async def test_what_cannot_be_read_is_put_aside_before_its_offset_goes(autojump_clock: MockClock) -> None:
    world = World([one_record(0, 0, 1000, ())])
    world.broken = [DeadLetter("unreadable", "", b"x", "in", 0, 0)]
    kept: list[int] = []
    world.on_answer = lambda _: kept.append(len(world.letters.letters))
    await world.run()
    assert kept == [1]
    assert world.written == [([], {0: 1})]


class Stuck(FakeDeadLetters):
    """A store of dead letters that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = trio.Event()

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        await self.takes.wait()
        await super().put(letters)


@pytest.mark.parametrize("too_large", [True, False])
async def test_it_polls_on_while_a_dead_letter_is_not_taken(autojump_clock: MockClock, too_large: bool) -> None:
    """Or the group would give its partitions to another replica after max.poll.interval.ms, again and again."""
    world = World([record(0), record(1)] if too_large else [one_record(0, 0, 1000, ()), record(1)])
    world.poison = 0 if too_large else None
    world.broken = [] if too_large else [DeadLetter("unreadable", "", b"x", "in", 0, 0)]
    world.letters = stuck = Stuck()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await trio.sleep(600)
        assert (world.paused, world.pauses, world.letters.letters) == (True, 1, [])
        assert world.polls > 5000
        assert world.written == [], "no offset goes on before its letter is kept"
        stuck.takes.set()
        with trio.fail_after(10):
            while len(world.offsets) < 1:
                await trio.sleep(0.1)
        assert (world.paused, world.pauses) == (False, 1)
        world.stop.set()
    assert [letter.offset for letter in world.letters.letters] == [0]
    assert world.offsets == [1]


async def test_what_goes_to_another_while_its_dead_letter_waits_is_not_written(autojump_clock: MockClock) -> None:
    world = World([record(0)])
    world.poison = 0
    world.letters = stuck = Stuck()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await trio.sleep(100)
        world.inputs.lost([0])
        stuck.takes.set()
    assert [letter.offset for letter in world.letters.letters] == [0]
    assert world.written == []


async def test_a_partition_that_is_ahead_is_not_read_on(autojump_clock: MockClock) -> None:
    world = World([one_record(0, offset, 1000, (fragment(1, size=WAITING_BYTES),)) for offset in range(2)])
    world.inputs.assigned({1: StartPosition(0, 0, committed=True)})
    await world.run()
    assert world.held == {0}
    assert world.written == []


async def test_tries_may_go_on_for_days(autojump_clock: MockClock) -> None:
    tries = 1100  # 2.0 ** 1024 is no float any more
    world = World([record(0)], [Again("a", "b")] * tries)
    await world.run()
    assert world.offsets == [0]
    assert world.meter.by_label(measures.REKEY_TRANSACTIONS)["failed",] == tries


async def test_law_9_a_stop_ends_the_tries(autojump_clock: MockClock) -> None:
    world = World([record(0)], [Again("a", "b")] * 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await trio.sleep(20)
        world.stop.set()
        with trio.fail_after(1):
            while not world.finished:
                await trio.sleep(0.01)
    assert world.written == []


async def test_where_a_partition_is_begun_is_committed_at_once() -> None:
    world = World([])
    commits = world.inputs.assigned({3: StartPosition(8, 8, committed=False), 4: StartPosition(9, 9, committed=True)})
    assert {id: commit.offset for id, commit in commits.items()} == {3: 8}
    assert await world.inputs.revoked([3]) == {}


async def test_a_record_whose_headers_cannot_be_read_is_written_counted_and_told(autojump_clock: MockClock) -> None:
    world = World([record(0), record(1)])
    world.headers = ((UNREADABLE_HEADERS, b"a reason \xff"),)
    with capture_logs() as logs:
        await world.run()
    assert world.offsets == [0, 1]
    assert world.meter.counted(measures.REKEY_UNREADABLE_HEADERS) == 2
    [line] = [line for line in logs if "without their headers" in line["event"]]
    assert (line["reason"], line["topic"], line["partition"], line["offset"]) == ("a reason \ufffd", "in", 0, 0)
