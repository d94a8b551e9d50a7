"""What every Source and Offsets must do: the real Kafka edge, and the simulation's fake of it.

A `World` makes topics and members; each check in `CONTRACT` is a coroutine function of one world. Times are trio's,
so a fake may run all of this on a simulated clock.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Protocol

import attrs
import trio

from tests.core.spans import Row, message, rows, span, trace_id
from tss.core import streamtime
from tss.core.errors import CannotCommit
from tss.core.partition import Commit
from tss.core.polled import Polled
from tss.core.startposition import StartPosition

# An answer from before may be received a moment after the broker hangs, and later where the client's thread has to wait for a
# processor. Stream time keeps this far behind (`core/streamtime.py`).
GRACE_MS = streamtime.GRACE_MS
PATIENCE_SECS = 40.0  # joins wait for the members that are there, lost sessions for their end


@attrs.frozen
class Sent:
    """A record to produce."""

    value: bytes
    partition: int = 0
    timestamp_ms: int | None = None  # None: the producer's now
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Group(Protocol):
    """What a member tells about its partitions."""

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]: ...

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]: ...

    def lost(self, ids: Sequence[int]) -> None: ...

    def identify(self, topic: str) -> None: ...


class Member(Protocol):
    """Source and Offsets in one."""

    async def poll(self) -> Polled: ...

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    def finish(self) -> None: ...

    async def commit(self, commits: Mapping[int, Commit]) -> None: ...


class World(Protocol):
    """Topics, members and the broker's moods."""

    @property
    def keeps_metadata(self) -> bool:
        """Whether the broker gives back what was committed beside an offset."""

    @property
    def outlives_restart(self) -> bool:
        """Whether topics are still there after one."""

    async def make_topic(self, partitions: int = 1) -> str: ...

    async def produce(self, topic: str, records: Sequence[Sent]) -> None:
        """Returns when all are in the log, each partition's in this order."""

    def open(
        self, topic: str, group: Group, *, reset: str = "earliest", eager: bool = False
    ) -> AbstractAsyncContextManager[Member]:
        """A member of the topic's one consumer group."""

    def wall_ms(self) -> int: ...

    async def stall(self) -> None:
        """The broker hangs: connections stay, nothing is answered."""

    async def unstall(self) -> None: ...

    async def stop_broker(self) -> None: ...

    async def start_broker(self) -> None: ...


@attrs.define
class Notebook:
    """A Group that writes down what it is told, commits what was read, and reads through its member."""

    member: Member | None = None
    starts: dict[int, StartPosition] = attrs.field(factory=dict)  # of what is assigned now
    events: list[tuple[str, tuple[int, ...]]] = attrs.field(factory=list)
    records: list[Row] = attrs.field(factory=list)
    polls: list[Polled] = attrs.field(factory=list)
    next: dict[int, int] = attrs.field(factory=dict)  # the offset after the last record read
    on_revoke: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    commit_on_revoke: Commit | None = None  # instead of what was read
    commits_starts: bool = False  # and nothing else

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        self.events.append(("assigned", tuple(sorted(starts))))
        self.starts |= starts
        self.next |= {id: start.offset for id, start in starts.items()}
        return {id: Commit(start.offset, start.offset) for id, start in starts.items()} if self.commits_starts else {}

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        self.events.append(("revoked", tuple(sorted(ids))))
        await self.on_revoke()
        commits = {id: Commit(self._forget(id), 0) for id in ids}
        if self.commits_starts:
            return {}
        return dict.fromkeys(ids, self.commit_on_revoke) if self.commit_on_revoke else commits

    def lost(self, ids: Sequence[int]) -> None:
        self.events.append(("lost", tuple(sorted(ids))))
        for id in ids:
            self._forget(id)

    def identify(self, topic: str) -> None:
        self.events.append((f"identified {topic}", ()))

    def _forget(self, id: int) -> int:
        del self.starts[id]
        return self.next.pop(id)

    async def poll(self) -> Polled:
        assert self.member is not None
        polled = await self.member.poll()
        self.polls.append(polled)
        read = rows(polled.records)
        for record in read:
            assert record.partition in self.starts, "a record of a partition that is not ours"
            self.next[record.partition] = max(self.next[record.partition], record.offset + 1)
        self.records += read
        return polled

    async def poll_until(self, done: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE_SECS):
            while not done():
                await self.poll()

    async def poll_for(self, secs: float) -> list[Polled]:
        """What came in that time. Not cut off: a poll that is cancelled may have read something."""
        first, until = len(self.polls), trio.current_time() + secs
        while trio.current_time() < until:
            await self.poll()
        return self.polls[first:]

    async def poll_for_ever(self) -> None:
        while True:
            await self.poll()

    def offsets(self, partition: int = 0) -> list[int]:
        return [record.offset for record in self.records if record.partition == partition]

    def known_until(self, partition: int = 0) -> int:
        """The wall ms up to which this partition was last known to have ended; 0 = never."""
        return max((polled.ends.get(partition, 0) for polled in self.polls), default=0)


def sent(number: int, partition: int = 0, timestamp_ms: int | None = None) -> Sent:
    """A record with one span of its own trace."""
    return Sent(message([span(number, 0)]), partition, timestamp_ms, key=trace_id(number))


# -- records


async def records_come_in_the_order_of_the_log(world: World) -> None:
    topic, book = await world.make_topic(2), Notebook()
    base = world.wall_ms() - 60_000
    await world.produce(topic, [sent(number, number % 2, base + number) for number in range(600)])
    async with world.open(topic, book) as book.member:
        await book.poll_until(lambda: len(book.records) >= 600)
    for partition in (0, 1):
        mine = [record for record in book.records if record.partition == partition]
        numbers = range(partition, 600, 2)
        assert [record.offset for record in mine] == [*range(300)]
        assert [record.timestamp_ms for record in mine] == [base + number for number in numbers]
        assert [record.fragments[0].trace_id for record in mine] == [trace_id(number) for number in numbers]


async def garbage_is_a_dead_letter_with_its_coordinates(world: World) -> None:
    topic, book = await world.make_topic(), Notebook()
    at_ms = world.wall_ms() - 5000
    headers: tuple[tuple[str, bytes | None], ...] = (("a", b"1"), ("b", None), ("a", b"\xff"))
    garbage = Sent(b"\xff not OTLP", 0, at_ms, b"\x00key", headers)
    await world.produce(topic, [sent(0), garbage, sent(1)])
    async with world.open(topic, book) as book.member:
        await book.poll_until(lambda: len(book.records) >= 3)
    assert book.offsets() == [0, 1, 2], "the garbage's offset is accounted for"
    assert not book.records[1].fragments
    (letter,) = [letter for polled in book.polls for letter in polled.dead_letters]
    assert (letter.topic, letter.partition, letter.offset, letter.timestamp_ms) == (topic, 0, 1, at_ms)
    assert (letter.key, letter.headers, letter.payload) == (garbage.key, headers, garbage.value)
    assert letter.reason == "unreadable" and letter.detail


# -- where reading begins


async def a_committed_offset_is_taken_up_with_its_replay(world: World) -> None:
    topic, first, second = await world.make_topic(), Notebook(), Notebook()
    await world.produce(topic, [sent(number) for number in range(10)])
    async with world.open(topic, first) as first.member:
        await first.poll_until(lambda: len(first.records) >= 10)
        assert first.starts == {0: StartPosition(0, 0, committed=False)}
        first.commit_on_revoke = Commit(6, 4)
        await first.member.commit({0: first.commit_on_revoke})
    async with world.open(topic, second) as second.member:
        begins = 4 if world.keeps_metadata else 6
        await second.poll_until(lambda: len(second.records) >= 10 - begins)
        assert second.starts == {0: StartPosition(6, begins, committed=True)}
        if world.keeps_metadata:  # Tansu, which does not, names ends too low as well
            assert second.starts[0].end == 10
        assert second.offsets() == [*range(begins, 10)]


async def without_a_commit_latest_begins_at_the_end(world: World) -> None:
    topic, book = await world.make_topic(2), Notebook()
    for number in range(3):  # one by one: Tansu names the first record of the last batch as the end
        await world.produce(topic, [sent(number)])
    async with world.open(topic, book, reset="latest") as book.member:
        await book.poll_until(lambda: bool(book.starts))
        assert book.starts == {0: StartPosition(3, 3, committed=False), 1: StartPosition(0, 0, committed=False)}
        await world.produce(topic, [sent(4), sent(5, 1)])
        await book.poll_until(lambda: len(book.records) >= 2)
    assert (book.offsets(0), book.offsets(1)) == ([3], [0])


async def the_start_is_committed_before_anything_is_read(world: World) -> None:
    """Or a crash before the first commit would begin at the end again, past what had come meanwhile."""
    topic, first, second = await world.make_topic(), Notebook(commits_starts=True), Notebook()
    await world.produce(topic, [sent(0)])
    async with world.open(topic, first, reset="latest") as first.member:
        await first.poll_until(lambda: bool(first.starts))
        await world.produce(topic, [sent(1), sent(2)])
        await first.poll_until(lambda: len(first.records) >= 2)
    async with world.open(topic, second, reset="latest") as second.member:
        await second.poll_until(lambda: len(second.records) >= 2)
        assert second.starts[0].committed
    assert second.offsets() == [1, 2]


async def without_a_commit_earliest_begins_at_the_start(world: World) -> None:
    topic, book = await world.make_topic(), Notebook()
    await world.produce(topic, [sent(0), sent(1)])
    async with world.open(topic, book, reset="earliest") as book.member:
        await book.poll_until(lambda: len(book.records) >= 2)
        assert book.starts == {0: StartPosition(0, 0, committed=False)}
    assert book.offsets() == [0, 1]


# -- the group


async def a_member_that_leaves_hands_over(world: World, *, eager: bool = False) -> None:
    topic, first, second = await world.make_topic(2), Notebook(), Notebook()
    await world.produce(topic, [sent(number, number % 2) for number in range(20)])
    async with AsyncExitStack() as stack:
        async with world.open(topic, first, eager=eager) as first.member, trio.open_nursery() as nursery:
            await first.poll_until(lambda: first.next == {0: 10, 1: 10})
            second.member = await stack.enter_async_context(world.open(topic, second, eager=eager))
            nursery.start_soon(second.poll_for_ever)
            await first.poll_until(lambda: len(first.starts) == len(second.starts) == 1)
            assert first.starts.keys() != second.starts.keys()
            assert ("revoked", (0, 1) if eager else tuple(second.starts)) in first.events
            await world.produce(topic, [sent(number, number % 2) for number in range(20, 40)])
            await first.poll_until(lambda: [*first.next.values()] == [*second.next.values()] == [20])
            (mine,), (others,) = first.starts, second.starts
            assert second.starts[others] == StartPosition(10, 0 if world.keeps_metadata else 10, committed=True)
            nursery.cancel_scope.cancel()
        assert first.events[-1] == ("revoked", (mine,)), "closing revokes"
        await world.produce(topic, [sent(number, number % 2) for number in range(40, 60)])
        await second.poll_until(lambda: second.next == {0: 30, 1: 30})
        assert second.starts[mine].offset == 20, "it goes on from what the other committed"
    assert {*first.offsets(mine)} == {*range(20)}
    assert {*second.offsets(others)} == {*range(0 if world.keeps_metadata else 10, 30)}


async def an_eager_member_that_leaves_hands_over(world: World) -> None:
    await a_member_that_leaves_hands_over(world, eager=True)


async def commits_go_on_during_a_revocation(world: World) -> None:
    """A revocation waits for what is in flight, which the committer settles between its commits."""
    topic, first, second = await world.make_topic(2), Notebook(), Notebook()
    commits_ended, ended_while_revoking = 0, trio.Event()

    async def in_flight() -> None:
        until = commits_ended + 3
        with trio.move_on_after(5):
            while commits_ended < until:
                await trio.sleep(0.01)
            ended_while_revoking.set()

    first.on_revoke = in_flight

    async def committer() -> None:
        nonlocal commits_ended
        assert first.member is not None
        while True:
            with suppress(CannotCommit):
                await first.member.commit({id: Commit(0, 0) for id in first.starts})
            commits_ended += 1
            await trio.sleep(0.01)

    async with world.open(topic, first) as first.member, trio.open_nursery() as nursery:
        await first.poll_until(lambda: len(first.starts) == 2)
        nursery.start_soon(committer)
        nursery.start_soon(first.poll_for_ever)
        async with world.open(topic, second) as second.member:
            await second.poll_until(lambda: bool(second.starts))
            assert ended_while_revoking.is_set()
        nursery.cancel_scope.cancel()


async def a_partition_that_is_not_ours_is_not_committed(world: World) -> None:
    topic, book = await world.make_topic(), Notebook()
    async with world.open(topic, book) as book.member:
        await book.poll_until(lambda: bool(book.starts))
        try:
            await book.member.commit({7: Commit(1, 1)})
        except CannotCommit:
            return
        raise AssertionError("committed")


async def commits_that_say_the_same_are_all_answered(world: World) -> None:
    """One after the other, and at once: as when a partition is revoked while its commit is still under way."""
    topic, book, ended = await world.make_topic(), Notebook(), 0
    await world.produce(topic, [sent(number) for number in range(5)])

    async def is_taken() -> None:
        assert book.member is not None
        try:
            await book.member.commit({0: Commit(3, 3)})
        except CannotCommit as error:
            raise AssertionError(f"there is no rebalance, and the brokers are well: {error}") from error

    async def commit() -> None:
        nonlocal ended
        assert book.member is not None
        with suppress(CannotCommit):  # an answer, too: the next commit covers it
            await book.member.commit({0: Commit(3, 3)})
        ended += 1

    async with world.open(topic, book) as book.member, trio.open_nursery() as nursery:
        await book.poll_until(lambda: len(book.records) >= 5)
        nursery.start_soon(book.poll_for_ever)
        with trio.fail_after(PATIENCE_SECS):
            for _ in range(3):
                await is_taken()
            async with trio.open_nursery() as both:
                both.start_soon(commit)
                both.start_soon(commit)
            await is_taken()
        nursery.cancel_scope.cancel()
    assert ended == 2


# -- ends


async def ends_are_known_of_idle_and_of_empty_partitions(world: World) -> None:
    topic, book = await world.make_topic(3), Notebook()
    await world.produce(topic, [sent(0, 0), sent(1, 1)])
    async with world.open(topic, book) as book.member:
        begun_ms = world.wall_ms()
        await book.poll_until(lambda: all(book.known_until(id) > begun_ms for id in (0, 1, 2)))
        assert (book.next[0], book.next[1]) == (1, 1), "no end is known while records remain"
        once = {id: book.known_until(id) for id in (0, 1, 2)}
        await book.poll_until(lambda: all(book.known_until(id) > once[id] for id in (0, 1, 2)))
        for polled in book.polls:
            assert all(known_ms <= polled.wall_ms for known_ms in polled.ends.values())
        assert {lag for polled in book.polls[-20:] for lag in polled.lags.values()} == {0}


async def time_stands_still_while_the_broker_hangs(world: World) -> None:
    topic, book = await world.make_topic(), Notebook()
    async with world.open(topic, book) as book.member:
        await book.poll_until(lambda: book.known_until() > 0)
        await world.stall()
        stalled_ms = world.wall_ms()
        try:
            await book.poll_for(4.5)
            assert book.known_until() <= stalled_ms + GRACE_MS
        finally:
            await world.unstall()
        later_ms = world.wall_ms()
        await book.poll_until(lambda: book.known_until() > later_ms)


# -- pausing


async def a_pause_neither_loses_nor_repeats(world: World) -> None:
    topic, book = await world.make_topic(2), Notebook()
    await world.produce(topic, [sent(number, number % 2) for number in range(3000)])
    async with world.open(topic, book) as book.member:
        await book.poll_until(lambda: len(book.records) > 0)
        await book.member.pause()
        paused_ms = world.wall_ms()
        await book.poll_for(3)
        assert book.known_until(0) <= paused_ms >= book.known_until(1), "a paused partition is never at its end"
        assert len(book.records) < 3000
        await world.produce(topic, [sent(number, number % 2) for number in range(3000, 3010)])
        await book.member.resume()
        await book.poll_until(lambda: len(book.records) >= 3010)
        await book.poll_for(1.5)
    assert book.offsets(0) == book.offsets(1) == [*range(1505)]


async def partitions_that_come_during_a_pause_are_paused(world: World) -> None:
    topic, book = await world.make_topic(), Notebook()
    await world.produce(topic, [sent(number) for number in range(10)])
    async with world.open(topic, book) as book.member:
        await book.member.pause()
        await book.poll_until(lambda: bool(book.starts))
        await book.poll_for(1.5)
        assert not book.records
        await book.member.resume()
        await book.poll_until(lambda: len(book.records) >= 10)
    assert book.offsets() == [*range(10)]


# -- the broker


async def a_broker_that_comes_back_is_read_on(world: World) -> None:
    if not world.outlives_restart:
        return
    topic, book = await world.make_topic(), Notebook()
    await world.produce(topic, [sent(number) for number in range(5)])
    async with world.open(topic, book) as book.member:
        await book.poll_until(lambda: len(book.records) >= 5)
        await book.member.commit({0: Commit(5, 5)})
        await book.poll_until(lambda: book.known_until() > 0)
        await world.stop_broker()
        stopped_ms = world.wall_ms()
        await book.poll_for(3)
        assert book.known_until() <= stopped_ms
        await world.start_broker()
        started_ms = world.wall_ms()
        await world.produce(topic, [sent(number) for number in range(5, 8)])
        await book.poll_until(lambda: bool(book.starts) and book.next[0] >= 8)
        await book.poll_until(lambda: book.known_until() > started_ms)
    offsets = book.offsets()
    assert offsets[:5] == [*range(5)]
    assert {*offsets[5:]} == {5, 6, 7}, "what was committed is not read again"
    # A group whose coordinator was away may take the partition from its member and give it back: what came after the
    # commit is read again then, and only then.
    assert len(offsets) == 8 or {"lost", "revoked"} & {name for name, _ in book.events}


Check = Callable[[World], Awaitable[None]]

CONTRACT: tuple[Check, ...] = (
    records_come_in_the_order_of_the_log,
    garbage_is_a_dead_letter_with_its_coordinates,
    a_committed_offset_is_taken_up_with_its_replay,
    without_a_commit_latest_begins_at_the_end,
    the_start_is_committed_before_anything_is_read,
    without_a_commit_earliest_begins_at_the_start,
    a_member_that_leaves_hands_over,
    an_eager_member_that_leaves_hands_over,
    commits_go_on_during_a_revocation,
    a_partition_that_is_not_ours_is_not_committed,
    commits_that_say_the_same_are_all_answered,
    ends_are_known_of_idle_and_of_empty_partitions,
    time_stands_still_while_the_broker_hangs,
    a_pause_neither_loses_nor_repeats,
    partitions_that_come_during_a_pause_are_paused,
    a_broker_that_comes_back_is_read_on,
)
