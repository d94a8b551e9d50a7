"""What the source makes of a member: whose turn it is, when a commit is answered, what a rebalance ends.

The member is scripted, its threads and its trio are real. So waits that must come true have seconds, and only those
that must run out have been made short.
"""

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from tests.core.spans import one_record
from tests.fakes.meter import FakeMeter
from tss.core.conditions.program import Program
from tss.core.errors import CannotCommit, CannotConnect, WrongSetting
from tss.core.health import Health, State
from tss.core.partition import Commit
from tss.core.polled import Polled
from tss.core.startposition import StartPosition
from tss.edges.kafka import source as edge
from tss.edges.kafka.connection import BrokerConnection
from tss.edges.kafka.member import Hear, MemberListener
from tss.edges.kafka.source import KafkaSource
from tss.settings import Kafka

PATIENCE_SECS = 20.0  # before a test that hangs fails; a machine under load is no reason
SHORT_SECS = 0.03  # for what must run out
START = StartPosition(5, 5, committed=False)
FIRST, SECOND = Commit(7, 6), Commit(9, 8)
READ = Polled(1, records=one_record(0, 5, 1, ()), lags={0: 3})


class ScriptedMember:
    """Implements what the source needs of a Member. One call at a time, or it raises."""

    def __init__(
        self,
        kafka: Kafka,
        client_id: str,
        group: MemberListener,
        connection: BrokerConnection,
        _program: Program,
        _rules: Callable[[], Program | None],
        _outbox: None,
        _parked: None,
        _keeping: bool,
        _poll_bytes: int,
    ) -> None:
        if not kafka.input_topic:
            raise WrongSetting("no topic")
        self.group = group
        self.during: Callable[[], object] = nothing  # what happens inside the next poll, and only there
        self.when_closed: Callable[[], object] = nothing
        self.when_waiting: Callable[[], object] = nothing  # what `commit_now` does
        self.read = Polled(0)
        self.calls: list[str] = []
        self.sent: list[tuple[Mapping[int, Commit], Hear]] = []  # by `commit_soon`
        self.waited: list[Mapping[int, Commit]] = []  # by `commit_now`
        self.told: list[dict[int, Commit]] = []  # what is to be committed on a rebalance
        self.go_on = threading.Event()
        self._connection = connection
        self._busy = threading.Lock()

    def hang(self) -> None:
        self.go_on.wait(PATIENCE_SECS)

    @contextmanager
    def _alone(self, call: str) -> Iterator[None]:
        assert self._busy.acquire(blocking=False), f"{call} while another call is under way"
        self.calls.append(call)
        try:
            yield
        finally:
            self._busy.release()

    # -- Member

    def poll(self) -> Polled:
        with self._alone("poll"):
            time.sleep(0.001)
            during, self.during = self.during, nothing
            during()
            return self.read

    def pause(self) -> None:
        with self._alone("pause"):
            time.sleep(0.001)

    def resume(self) -> None:
        with self._alone("resume"):
            time.sleep(0.001)

    def commit_now(self, commits: Mapping[int, Commit]) -> None:
        with self._alone("commit_now"):
            self.waited.append(commits)
            self.when_waiting()

    def commit_soon(self, commits: Mapping[int, Commit], hear: Hear) -> None:
        with self._alone("commit_soon"):
            self.sent.append((commits, hear))

    def close(self) -> None:
        with self._alone("close"):
            self.when_closed()

    # -- what librdkafka would call

    def assign(self, *ids: int) -> None:
        self._connection.join(has_partitions=True)
        self.told.append(self.group.assigned(dict.fromkeys(ids, START)))

    def revoke(self, *ids: int) -> None:
        self.told.append(self.group.revoked(ids))

    def lose(self, *ids: int) -> None:
        self.group.lost(ids)

    def answer(self, error: CannotCommit | CannotConnect | None = None) -> None:
        """What was sent last."""
        self.sent[-1][1](error)


def nothing() -> None: ...


async def at_once() -> None: ...


class Notebook:
    """Implements Assignments."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.commits: dict[int, Commit] = {}
        self.while_revoking: Callable[[], Awaitable[object]] = at_once

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        self.events.append(("assigned", dict(starts)))
        return self.commits

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        self.events.append(("revoked", *ids))
        await self.while_revoking()
        return self.commits

    def lost(self, ids: Sequence[int]) -> None:
        self.events.append(("lost", *ids))

    def identify(self, topic: str) -> None:
        self.events.append(("identified", topic))


@attrs.define
class Attempt:
    """A commit in a task of its own."""

    error: Exception | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, source: KafkaSource, commits: Mapping[int, Commit]) -> None:
        try:
            await source.commit(commits)
        except (CannotCommit, CannotConnect) as error:
            self.error = error
        self.ended.set()


@attrs.define
class World:
    source: KafkaSource
    member: ScriptedMember
    book: Notebook
    health: Health

    def kafka(self) -> tuple[State, str]:
        component = self.health.components["kafka"]
        return component.state, component.detail

    async def poll_with(self, *during: Callable[[], object]) -> Polled:
        """These happen inside, on the member's thread."""
        self.member.during = lambda: [each() for each in during]
        return await self.source.poll()

    async def poll_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.source.poll()

    async def send(self, nursery: trio.Nursery, commits: Mapping[int, Commit]) -> Attempt:
        """A commit that waits for its answer."""
        attempt, before = Attempt(), len(self.member.sent)
        nursery.start_soon(attempt.run, self.source, commits)
        while len(self.member.sent) == before:
            await trio.sleep(0.001)
        return attempt

    def queue(self, nursery: trio.Nursery, attempt: Attempt, commits: Mapping[int, Commit]) -> Callable[[], None]:
        """To happen inside a poll: a commit comes to wait for the poll's end."""

        async def queue() -> None:
            nursery.start_soon(attempt.run, self.source, commits)
            while not self.source._one_at_a_time.statistics().tasks_waiting:
                await trio.sleep(0.001)

        return lambda: trio.from_thread.run(queue)


@asynccontextmanager
async def opened(close_secs: float = edge.CLOSE_SECS) -> AsyncIterator[World]:
    """A source that has not polled yet."""
    book, health = Notebook(), Health()
    kafka = Kafka(brokers="b:1", input_topic="t")
    with trio.fail_after(PATIENCE_SECS):
        async with KafkaSource.open(kafka, "me", book, FakeMeter(), health, close_secs=close_secs) as source:
            member = cast(ScriptedMember, source._member)
            yield World(source, member, book, health)


@asynccontextmanager
async def joined() -> AsyncIterator[World]:
    """Of partitions 0 and 1, and polled just now."""
    async with opened() as world:
        await world.poll_with(lambda: world.member.assign(0, 1))
        yield world


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "Member", ScriptedMember)
    monkeypatch.setattr(edge, "LOOK_SECS", 0.01)
    for name in ("COMMIT_SECS", "POLLED_SECS", "STALLED_SECS", "TURN_SECS"):
        monkeypatch.setattr(edge, name, PATIENCE_SECS)


@pytest.fixture
def unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two polls nobody polls."""
    monkeypatch.setattr(edge, "POLLED_SECS", 0.0)


# -- polls


async def test_a_poll_returns_what_the_member_read() -> None:
    async with opened() as world:
        assert world.kafka() == (State.STARTING, "joining the consumer group")
        world.member.read = READ
        assert await world.source.poll() is READ
        assert world.kafka() == (State.STARTING, "joining the consumer group")
        await world.poll_with(lambda: world.member.assign(0))
        assert world.kafka() == (State.UP, "")


async def test_what_a_poll_has_read_is_returned_though_it_was_cancelled() -> None:
    async with joined() as world:
        world.member.read = READ
        with trio.CancelScope() as scope:
            assert await world.poll_with(lambda: trio.from_thread.run_sync(scope.cancel)) is READ
        assert not scope.cancelled_caught


async def test_a_cancelled_poll_that_takes_long_ends_where_it_breathes() -> None:
    async with joined() as world:
        with trio.CancelScope() as scope:
            await world.poll_with(lambda: trio.from_thread.run_sync(scope.cancel), world.member.group.breathe)
        assert scope.cancelled_caught
        await world.poll_with(world.member.group.breathe)


async def test_a_poll_that_is_refused_for_good_says_so_in_health_too() -> None:
    def refuse() -> None:
        raise CannotConnect("no such user")

    async with joined() as world:
        with pytest.raises(CannotConnect, match="no such user"):
            await world.poll_with(refuse)
        assert world.kafka() == (State.DOWN, "no such user")
        world.member.read = READ
        assert await world.source.poll() is READ, "and its turn is over"


async def test_settings_that_the_client_refuses_are_refused_when_opening() -> None:
    with pytest.raises(WrongSetting, match="no topic"):
        async with KafkaSource.open(Kafka(brokers="b:1", input_topic=""), "me", Notebook(), FakeMeter(), Health()):
            raise AssertionError("opened")


async def test_calls_take_turns() -> None:
    """The member raises where they do not."""
    async with joined() as world, trio.open_nursery() as nursery:
        source, member = world.source, world.member
        attempt = Attempt()
        for call in (source.poll, source.pause, source.poll, source.resume):
            nursery.start_soon(call)
        nursery.start_soon(attempt.run, source, {0: FIRST})
        await world.poll_until(lambda: member.sent)
        await world.poll_with(member.answer)
        await attempt.ended.wait()
    assert {"poll", "pause", "resume", "commit_soon"} == {*member.calls} - {"close"} and attempt.error is None


# -- commits


@pytest.mark.parametrize("error", [None, CannotCommit("try again"), CannotConnect("never")], ids=repr)
async def test_while_polling_a_commit_is_answered_through_a_later_poll(error) -> None:
    async with joined() as world, trio.open_nursery() as nursery:
        attempt = await world.send(nursery, {0: FIRST, 1: SECOND})
        assert world.member.sent[0][0] == {0: FIRST, 1: SECOND}
        await world.source.poll()
        assert not attempt.ended.is_set()
        world.member.read = READ
        assert await world.poll_with(lambda: world.member.answer(error)) is READ
        await attempt.ended.wait()
    assert attempt.error is error
    assert world.member.waited == []


@pytest.mark.parametrize("error", [None, CannotCommit("try again"), CannotConnect("never")], ids=repr)
@pytest.mark.usefixtures("unpolled")
async def test_when_nobody_polls_a_commit_is_waited_for(error) -> None:
    def answer() -> None:
        if error:
            raise error

    async with joined() as world:
        world.member.when_waiting = answer
        for _ in range(2):  # and the answer, whatever it says, lets the next one go
            attempt = Attempt()
            await attempt.run(world.source, {0: FIRST, 1: SECOND})
            assert attempt.error is error
    assert world.member.waited == [{0: FIRST, 1: SECOND}] * 2
    assert world.member.sent == []


async def test_when_the_polls_end_before_the_answer_the_commit_is_made_again_and_waited_for(monkeypatch) -> None:
    async with joined() as world:
        monkeypatch.setattr(edge, "STALLED_SECS", 0.0)
        await world.source.commit({0: FIRST})
        assert [commits for commits, _ in world.member.sent] == world.member.waited == [{0: FIRST}]
        await world.poll_with(world.member.answer)


async def test_after_the_last_poll_a_commit_is_waited_for_at_once() -> None:
    async with joined() as world:
        world.source.finish()
        await world.source.commit({0: FIRST})
        assert world.member.waited == [{0: FIRST}] and not world.member.sent


async def test_the_last_poll_ends_the_wait_for_an_answer_too() -> None:
    async with joined() as world:
        async with trio.open_nursery() as nursery:
            attempt = await world.send(nursery, {0: FIRST})
            world.source.finish()
        assert attempt.error is None
        assert [commits for commits, _ in world.member.sent] == world.member.waited == [{0: FIRST}]


async def hung_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is sent, given up, and has no answer yet, while reading goes on."""
    monkeypatch.setattr(edge, "COMMIT_SECS", SHORT_SECS)
    world.member.read = READ
    async with trio.open_nursery() as nursery:
        attempt = await world.send(nursery, {0: FIRST})
        while not attempt.ended.is_set():
            assert await world.source.poll() is READ
    assert isinstance(attempt.error, CannotCommit) and str(attempt.error).startswith(f"no answer in {SHORT_SECS} s")
    monkeypatch.setattr(edge, "COMMIT_SECS", PATIENCE_SECS)


async def test_a_commit_without_an_answer_is_given_up_and_no_other_is_sent_until_it_has_one(monkeypatch) -> None:
    async with joined() as world:
        await hung_commit(world, monkeypatch)
        for _ in range(3):
            with pytest.raises(CannotCommit, match="the commit before is still without an answer"):
                await world.source.commit({0: SECOND})
            assert await world.source.poll() is READ
        assert world.kafka() == (State.UP, "")
        assert len(world.member.sent) == 1 and not world.member.waited
        await world.poll_with(world.member.answer)
        async with trio.open_nursery() as nursery:
            attempt = await world.send(nursery, {0: SECOND})
            await world.poll_with(world.member.answer)
        assert attempt.error is None


async def test_the_last_commit_is_tried_though_the_one_before_has_no_answer(monkeypatch) -> None:
    async with joined() as world:
        await hung_commit(world, monkeypatch)
        world.source.finish()
        await world.source.commit({0: SECOND})
        assert world.member.waited == [{0: SECOND}]


async def test_a_commit_that_is_never_answered_is_followed_by_another_at_last(monkeypatch) -> None:
    async with joined() as world:
        await hung_commit(world, monkeypatch)
        monkeypatch.setattr(edge, "UNHEARD_SECS", 0.0)
        async with trio.open_nursery() as nursery:
            attempt = await world.send(nursery, {0: SECOND})
            await world.poll_with(world.member.answer)
        assert attempt.error is None


@pytest.mark.usefixtures("unpolled")
async def test_a_commit_that_hangs_when_nobody_polls_is_given_up_and_left_to_its_thread(monkeypatch) -> None:
    monkeypatch.setattr(edge, "COMMIT_SECS", SHORT_SECS)
    async with joined() as world:
        source, member = world.source, world.member
        member.read, member.when_waiting = READ, member.hang
        with pytest.raises(CannotCommit, match="no answer in"):
            await source.commit({0: FIRST})
        with pytest.raises(CannotCommit, match="the commit before is still without an answer"):
            await source.commit({0: SECOND})
        monkeypatch.setattr(edge, "TURN_SECS", SHORT_SECS)
        for _ in range(2):
            polled = await source.poll()
            assert not polled.records and abs(polled.wall_ms / 1000 - time.time()) < PATIENCE_SECS
            assert world.kafka() == (State.DOWN, "a commit is without an answer")
        for name in ("TURN_SECS", "COMMIT_SECS"):
            monkeypatch.setattr(edge, name, PATIENCE_SECS)
        member.go_on.set()
        assert await source.poll() is READ
        assert world.kafka() == (State.UP, "")
        await source.commit({0: SECOND})
        assert member.waited == [{0: FIRST}, {0: SECOND}]


# -- rebalances


async def test_partitions_that_come_may_be_committed_at_once() -> None:
    async with joined() as world:
        world.book.commits = {2: Commit(5, 5)}
        await world.poll_with(lambda: world.member.assign(2))
        assert world.member.told == [{}, {2: Commit(5, 5)}]
        assert world.book.events == [("assigned", {0: START, 1: START}), ("assigned", {2: START})]


async def test_a_revocation_ends_the_wait_for_an_answer() -> None:
    """Else each would wait for the other."""
    async with joined() as world:
        world.book.commits = {0: SECOND}
        async with trio.open_nursery() as nursery:
            attempt = await world.send(nursery, {0: FIRST, 1: FIRST})
            world.book.while_revoking = attempt.ended.wait
            await world.poll_with(lambda: world.member.revoke(0))
        assert isinstance(attempt.error, CannotCommit) and "a rebalance came first" in str(attempt.error)
        assert world.member.told[-1] == {0: SECOND}
        assert world.book.events[-1] == ("revoked", 0)
        await world.poll_with(world.member.answer)  # which nobody waits for any more
        async with trio.open_nursery() as nursery:
            attempt = await world.send(nursery, {1: SECOND})
            await world.poll_with(world.member.answer)
        assert attempt.error is None, "what is still ours can be committed"
        assert not world.source._commits, "of those that have ended nothing is kept"


async def test_a_revocation_ends_the_wait_for_a_turn() -> None:
    async with joined() as world:
        attempt = Attempt()
        world.book.while_revoking = attempt.ended.wait
        async with trio.open_nursery() as nursery:
            queue = world.queue(nursery, attempt, {0: FIRST, 1: FIRST})
            await world.poll_with(queue, lambda: world.member.revoke(0))
        assert isinstance(attempt.error, CannotCommit) and "a rebalance came first" in str(attempt.error)
        assert not world.member.sent and not world.member.waited


async def test_nothing_is_committed_beside_a_revocation() -> None:
    async with joined() as world:
        attempt = Attempt()
        world.book.while_revoking = lambda: attempt.run(world.source, {1: FIRST})
        await world.poll_with(lambda: world.member.revoke(0))
        assert isinstance(attempt.error, CannotCommit) and str(attempt.error) == "a rebalance is under way"
        async with trio.open_nursery() as nursery:
            attempt = await world.send(nursery, {1: SECOND})
            await world.poll_with(world.member.answer)
        assert attempt.error is None


async def test_a_revocation_that_fails_is_over_all_the_same() -> None:
    async def fail() -> None:
        raise ValueError("boom")

    async with joined() as world:
        world.book.while_revoking = fail
        with pytest.raises(ValueError, match="boom"):
            await world.poll_with(lambda: world.member.revoke(0))
        with pytest.raises(CannotCommit, match=r"partitions \[0\] are not ours any more"):
            await world.source.commit({0: FIRST})


@pytest.mark.parametrize("comes_back", [False, True])
async def test_a_commit_made_before_a_partition_went_is_dropped(comes_back) -> None:
    """Of two partitions, so that one is still committed."""
    async with joined() as world:
        member, attempt = world.member, Attempt()
        back = (lambda: member.assign(0)) if comes_back else nothing
        async with trio.open_nursery() as nursery:
            queue = world.queue(nursery, attempt, {0: FIRST, 1: SECOND})
            await world.poll_with(queue, lambda: member.lose(0), back)
        assert isinstance(attempt.error, CannotCommit)
        assert str(attempt.error) == "partitions [0] are not ours any more"
        assert [commits for commits, _ in member.sent] == [{1: SECOND}]


@pytest.mark.parametrize("how", ["revoke", "lose"])
@pytest.mark.parametrize("polled_secs", [0.0, PATIENCE_SECS])
async def test_what_has_gone_is_not_committed(how, polled_secs, monkeypatch) -> None:
    monkeypatch.setattr(edge, "POLLED_SECS", polled_secs)
    async with joined() as world:
        await world.poll_with(lambda: getattr(world.member, how)(0, 1))
        assert world.book.events[-1] == ({"revoke": "revoked", "lose": "lost"}[how], 0, 1)
        with pytest.raises(CannotCommit, match=r"partitions \[0, 1, 7\] are not ours any more"):
            await world.source.commit({0: FIRST, 1: FIRST, 7: FIRST})
        assert not world.member.sent and not world.member.waited


# -- the end


async def test_leaving_revokes_even_when_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with joined() as world:
            world.book.commits = {0: FIRST}
            world.member.when_closed = lambda: world.member.revoke(0, 1)
            scope.cancel()
            await trio.sleep_forever()
    assert world.member.calls[-1] == "close" and world.book.events[-1] == ("revoked", 0, 1)
    assert world.member.told[-1] == {0: FIRST}


async def test_leaving_is_bounded_when_it_hangs() -> None:
    began = trio.current_time()
    with capture_logs() as lines:
        async with opened(close_secs=SHORT_SECS) as world:
            world.member.when_closed = world.member.hang
    world.member.go_on.set()
    assert trio.current_time() - began < PATIENCE_SECS / 2
    assert [line["log_level"] for line in lines if "was not left in time" in line["event"]] == ["warning"]


@pytest.mark.usefixtures("unpolled")
async def test_leaving_is_bounded_when_the_last_commit_hangs(monkeypatch) -> None:
    monkeypatch.setattr(edge, "COMMIT_SECS", SHORT_SECS)
    began = trio.current_time()
    with capture_logs() as lines:
        async with opened(close_secs=SHORT_SECS) as world:
            world.member.when_waiting = world.member.hang
            await world.poll_with(lambda: world.member.assign(0))
            with pytest.raises(CannotCommit, match="no answer in"):
                await world.source.commit({0: FIRST})
    assert "close" not in world.member.calls
    world.member.go_on.set()
    assert trio.current_time() - began < PATIENCE_SECS / 2
    assert [line["log_level"] for line in lines if "was not left in time" in line["event"]] == ["warning"]
