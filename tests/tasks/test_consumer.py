"""Backpressure: reading pauses once, stays a member, and loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.core.spans import fragment, record
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.deadletter import DeadLetter
from tss.core.errors import LawBroken
from tss.core.health import Health
from tss.core.memory import Memory
from tss.core.polled import Polled
from tss.core.startposition import StartPosition
from tss.state.assignments import Assignments
from tss.state.keying import Keying
from tss.state.pausing import Pausing
from tss.tasks import consumer
from tss.tasks.consumer import Batch


class Endless:
    """A source with a record a poll, which stops while paused as librdkafka does."""

    def __init__(self, dead_letters: Sequence[DeadLetter] = ()) -> None:
        self.polls = self.pauses = self.resumes = 0
        self.offset = 0
        self.paused = False
        self.dead_letters = dead_letters
        self.finished = False

    async def poll(self) -> Polled:
        self.polls += 1
        await trio.sleep(0.1)
        if self.paused:
            return Polled(0)
        self.offset += 1
        return Polled(0, record(self.offset - 1, 1.0, fragment(self.offset)), self.dead_letters, {0: 5, 9: 5}, {0: 3})

    async def pause(self) -> None:
        self.pauses += 1
        self.paused = True

    async def resume(self) -> None:
        self.resumes += 1
        self.paused = False

    async def seek(self, positions: Mapping[int, int]) -> None:
        raise AssertionError(f"nothing was lost, so nothing is read again: {positions}")

    def finish(self) -> None:
        self.finished = True


def keying() -> Keying:
    return Keying(FakeMeter(), Health(), rekeyed=False)


def pausing(meter: FakeMeter | None = None) -> Pausing:
    return Pausing(Health(), meter or FakeMeter())


def made(meter: FakeMeter) -> Assignments:
    buffer = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(1, 1, 1), Memory())
    assignments = Assignments("t", buffer, meter, max_skew_ms=0, replay_secs=0, commits=True)
    assignments.assigned({0: StartPosition(0, 0, committed=False)})
    return assignments


async def test_a_slow_reader_pauses_reading_without_flapping_and_nothing_is_lost(autojump_clock: MockClock) -> None:
    source, meter, stop = Endless(), FakeMeter(), trio.Event()
    send, receive = trio.open_memory_channel[Batch](2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            consumer.run, source, made(meter), FakeDeadLetters(), send, stop, meter, keying(), pausing(meter)
        )
        await trio.sleep(600)
        assert source.pauses == 1
        assert source.polls > 5000  # it goes on polling: the group must not miss it (max.poll.interval.ms is 300 s)
        assert meter.gauges["backpressure_paused", ()] == 1
        offsets = [batch.runs[0].records.place(0)[1] for batch in [await receive.receive() for _ in range(100)]]
        assert offsets == list(range(100))
        assert (source.pauses, source.resumes) == (1, 1)
        stop.set()
    assert meter.counted(measures.PAUSES) == 1
    assert meter.gauges["kafka_consumer_lag", ("t", "0")] == 3


async def test_law_9_a_paused_consumer_stops_when_told(autojump_clock: MockClock) -> None:
    source, stop = Endless(), trio.Event()
    send, _receive = trio.open_memory_channel[Batch](1)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                consumer.run, source, made(FakeMeter()), FakeDeadLetters(), send, stop, FakeMeter(), keying(), pausing()
            )
            await trio.sleep(20)
            stop.set()
    assert source.finished


async def test_law_1_dead_letters_are_kept_before_their_record_goes_on(autojump_clock: MockClock) -> None:
    letter = DeadLetter("unreadable", "", b"x")
    source, meter, stop = Endless([letter]), FakeMeter(), trio.Event()
    letters = FakeDeadLetters(max_delay_secs=50)
    send, receive = trio.open_memory_channel[Batch](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumer.run, source, made(meter), letters, send, stop, meter, keying(), pausing(meter))
        batch = await receive.receive()
        assert letters.letters == [letter]
        assert [partition.id for partition, _ in batch.ends] == [0]  # partition 9 is not ours
        stop.set()
        receive.close()
        nursery.cancel_scope.cancel()
    assert meter.counted(measures.UNREADABLE, "unreadable") >= 1


async def test_reading_pauses_and_polls_while_a_letter_is_not_taken(autojump_clock: MockClock) -> None:
    letter = DeadLetter("unreadable", "", b"x")
    source, meter, stop = Endless([letter]), FakeMeter(), trio.Event()
    is_taken = trio.Event()

    class Stuck(FakeDeadLetters):
        async def put(self, letters: Sequence[DeadLetter]) -> None:
            await is_taken.wait()
            await super().put(letters)

    letters = Stuck()
    send, receive = trio.open_memory_channel[Batch](100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumer.run, source, made(meter), letters, send, stop, meter, keying(), pausing(meter))
        await trio.sleep(600)
        assert source.polls > 5000 and source.pauses == 1 and source.resumes == 0
        assert receive.statistics().current_buffer_used == 0 and letters.letters == []
        is_taken.set()
        offsets = [
            batch.runs[0].records.place(0)[1] for batch in [await receive.receive() for _ in range(20)] if batch.runs
        ]
        assert offsets == [*range(len(offsets))] and len(offsets) > 10
        assert (source.pauses, source.resumes) == (1, 1)
        stop.set()


def test_law_5_what_the_source_holds_and_has_not_read_counts_as_polled() -> None:
    assignments = made(FakeMeter())
    buffer = assignments._buffer
    assert assignments.holds(100, 1000) == 100
    assert buffer.polled_bytes == 1100
    buffer.polled_bytes -= 100  # the sweeper has taken them in
    assert assignments.holds(0, 300, 50) == 0
    assert buffer.polled_bytes == 300
    assert buffer.held_by_kind()["answers"] == 50
    assert assignments.holds(0, 300, 40) == 0
    assert buffer.held_by_kind()["answers"] == 40


def test_a_log_that_goes_back_is_taken_up_anew() -> None:
    meter = FakeMeter()
    assignments = made(meter)
    before = assignments.bind(record(7, 1.0))[0].partition
    before.ledger.read(7)
    after = assignments.bind(record(3, 1.0))[0].partition
    assert before.revoked
    assert (after.start, after.revoked) == (3, False)
    assert assignments.bind(record(0, 1.0, partition=5)) == []


def test_law_1_a_log_that_goes_back_into_what_is_held_ends_the_process() -> None:
    """What lies between the low water and there would be forgotten, and committed by the next commit."""
    assignments = made(FakeMeter())
    partition = assignments.bind(record(0, 1.0, fragment(1)))[0].partition
    partition.time.observe(1000, 10**9)
    partition.ledger.read(0)
    partition.ledger.hold(0)
    assignments.bind(record(7, 1.0))
    with pytest.raises(LawBroken, match="law 1"):
        assignments.bind(record(3, 1.0))


async def test_dead_letters_of_replayed_records_were_put_aside_the_first_time(autojump_clock: MockClock) -> None:
    letters = [DeadLetter("unreadable", "", b"x", partition=0, offset=offset) for offset in (4, 5)]
    source, meter, stop, kept = Endless(letters), FakeMeter(), trio.Event(), FakeDeadLetters()
    assignments = made(meter)
    assignments.lost([0])
    assignments.assigned({0: StartPosition(5, 0, committed=True)})
    send, receive = trio.open_memory_channel[Batch](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumer.run, source, assignments, kept, send, stop, meter, keying(), pausing(meter))
        await receive.receive()
        nursery.cancel_scope.cancel()
    assert {letter.offset for letter in kept.letters} == {5}


async def test_a_topic_that_cannot_be_read_at_all_is_told_of_twice_a_minute(autojump_clock: MockClock) -> None:
    source, meter, stop = Endless([DeadLetter("unreadable", "", b"x")]), FakeMeter(), trio.Event()
    send, receive = trio.open_memory_channel[Batch](2)
    polled = 0
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                consumer.run, source, made(meter), FakeDeadLetters(), send, stop, meter, keying(), pausing(meter)
            )
            async for _ in receive:
                polled += 1
                if polled == 1000:  # 100 s
                    stop.set()
    told = [line["count"] for line in lines if "could not be read as spans" in line["event"]]
    assert len(told) == 4
    assert polled - 300 <= sum(told) <= polled, "what is told later has been counted meanwhile"
