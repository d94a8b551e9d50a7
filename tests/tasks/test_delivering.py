"""What becomes of traces that a destination refuses: the guilty are found, a sick server shreds nothing, nobody is flooded."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from tests.core.spans import trace_id
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.meter import FakeMeter
from tests.scheduling import scheduled_by
from tests.tasks.test_exporter import kept
from tss.core import measures
from tss.core.deadletter import DeadLetter
from tss.core.delivery import Accepted, Again, Batching, Misconfigured, Outcome, Rejected, Retrying, Undeliverable
from tss.core.health import Health, State
from tss.core.trace import Trace
from tss.state.lane import Lane
from tss.tasks import exporter

Answering = Callable[[float, Collection[int]], Outcome]


def http(status: int) -> Outcome:
    """As the edges translate it."""
    if status in (429, 503):
        return Again(f"http_{status}", "busy")
    if status in (401, 403):
        return Misconfigured(f"http_{status}", "not allowed")
    return Rejected(f"http_{status}", "no", blames_data=status in (400, 413, 422, 431))


class Server:
    """Answers as it is told, after 10 ms; remembers what it was sent, when, and what it took."""

    name = "backend"
    comes_last = False

    def __init__(self, answer: Answering, *, knock: bool = True, places: int = 4, max_traces: int = 1000) -> None:
        self.batching = Batching(max_traces=max_traces, linger_secs=0.2, max_in_flight=places)
        self.retrying = Retrying(initial_secs=1.0)
        self.answer = answer
        self.takes_knocks = knock
        self.began = trio.current_time()
        self.sent: list[tuple[float, int]] = []
        self.knocks = 0
        self.taken: list[int] = []
        self.taken_at: list[float] = []

    @property
    def now(self) -> float:
        return trio.current_time() - self.began

    async def send(self, traces: Sequence[Trace]) -> Outcome:
        self.sent.append((self.now, len(traces)))
        await trio.sleep(0.01)
        numbers = [int.from_bytes(each.trace_id[:8], "big") - 1 for each in traces]
        outcome = self.answer(self.now, numbers)
        if isinstance(outcome, Accepted):
            self.taken += numbers
            self.taken_at.append(self.now)
        return outcome

    async def knock(self) -> bool:
        self.knocks += 1
        await trio.sleep(0.01)
        return self.takes_knocks

    def forget(self, traces: Sequence[Trace]) -> None:
        pass


def poison(status: int, *guilty: int) -> Answering:
    """Refuses a batch with one of these in it."""
    return lambda _now, numbers: http(status) if set(guilty).intersection(numbers) else Accepted()


class Rig:
    """An exporter with one destination."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.meter, self.health, self.letters = FakeMeter(), Health(), FakeDeadLetters()
        self.lane = Lane("traces", server, self.letters, self.health, self.meter, random.Random(3))
        self.kept, self._kept_out = trio.open_memory_channel[list[Trace]](0)
        self._settled_in, self._settled_out = trio.open_memory_channel[list[Trace]](10_000)

    async def run(self) -> None:
        await exporter.run(self._kept_out, self._settled_in, [self.lane], self.meter)

    async def traffic(self, numbers: Sequence[int], every_secs: float, at_once: int = 1) -> None:
        for place in range(0, len(numbers), at_once):
            await self.kept.send([kept(number) for number in numbers[place : place + at_once]])
            await trio.sleep(every_secs)

    async def all_of(self, *numbers: int) -> None:
        """These and no more, until everything is settled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await self.kept.send([kept(number) for number in numbers])
            self.kept.close()

    @property
    def settled(self) -> int:
        count = 0
        while True:
            try:
                count += len(self._settled_out.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return count

    def is_down(self) -> bool:
        return self.health.components["exporter backend"].state is State.DOWN

    @property
    def guilty(self) -> dict[str, str]:
        return {letter.trace_id: letter.reason for letter in self.letters.letters}


def hexed(*numbers: int) -> set[str]:
    return {trace_id(number).hex() for number in numbers}


@pytest.mark.parametrize("status", [400, 403, 413, 500, 501, 503])
async def test_a_server_that_refuses_everything_costs_few_requests_and_no_trace(
    autojump_clock: MockClock, status: int
) -> None:
    """Two hours of it. 400 is what a TLS port answers to `http://`."""
    server = Server(lambda _now, _numbers: http(status), knock=False)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        nursery.start_soon(rig.traffic, range(18_000), 0.1, 500)
        await trio.sleep(120)
        assert len(server.sent) < 40
        assert rig.meter.counted(measures.EXPORT_ERRORS, "backend", f"http_{status}") == len(server.sent)
        assert rig.is_down()
        assert rig.lane.standing.down_secs > 100
        await trio.sleep(7_200)
        assert len(server.sent) < 900
        assert rig.letters.letters == []
        handed = rig.lane.standing.waiting_traces
        assert handed < 15_000, f"reading goes on although nothing is taken: {handed}, {len(server.sent)}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_a_server_that_is_sick_for_a_while_loses_nothing(autojump_clock: MockClock, status: int) -> None:
    server = Server(lambda now, _numbers: http(status) if now < 900 else Accepted(), knock=False)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.traffic(range(10_000), 0.1, 500)
        rig.kept.close()
    assert sorted(server.taken) == [*range(10_000)]
    assert rig.letters.letters == []
    assert rig.settled == 10_000
    assert not rig.is_down()
    assert max(at for at, _ in server.sent) < 960
    assert len([at for at, _ in server.sent if at > 900]) < 80


@pytest.fixture
def scheduled() -> Iterator[None]:
    """Where the outcome is a matter of chance, all chance comes from a seed: the order of tasks, too."""
    with scheduled_by(7):
        yield


@pytest.mark.parametrize("status", [400, 500])
async def test_a_server_that_refuses_most_at_random_has_no_healthy_trace_given_up(
    scheduled: None, autojump_clock: MockClock, status: int
) -> None:
    """Others are taken all the time, so five refusals say little: one trace in six has them."""
    chance = random.Random(7)
    server = Server(
        lambda now, _numbers: http(status) if chance.random() < min(0.7, now / 1000) else Accepted(), places=8
    )
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.traffic(range(3_000), 1)
        rig.kept.close()
    assert rig.guilty == {}
    assert sorted(server.taken) == [*range(3_000)]
    assert rig.settled == 3_000


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_one_poison_trace_among_a_thousand_is_found_alone(autojump_clock: MockClock, status: int) -> None:
    """While other traces are taken: only it becomes a dead letter, and after no fewer than five tries."""
    server = Server(poison(status, 612))
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(number) for number in range(1000)])
        await rig.traffic(range(1000, 1200), 0.5)
        rig.kept.close()
    assert rig.guilty == dict.fromkeys(hexed(612), f"http_{status}")
    assert sorted([*server.taken, 612]) == [*range(1200)]
    assert rig.settled == 1200
    refused = rig.meter.counted(measures.EXPORT_ERRORS, "backend", f"http_{status}")
    assert 5 <= refused <= 30
    assert not rig.is_down()


async def test_two_of_two_thousand_are_found_exactly(autojump_clock: MockClock) -> None:
    server = Server(poison(500, 7, 1500))
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(number) for number in range(2000)])
        await rig.traffic(range(2000, 2200), 0.5)
        rig.kept.close()
    assert set(rig.guilty) == hexed(7, 1500)
    assert sorted([*server.taken, 7, 1500]) == [*range(2200)]


async def test_the_batch_of_a_500_is_tried_five_times_before_it_is_halved(autojump_clock: MockClock) -> None:
    """And ever more slowly."""
    server = Server(poison(500, 3), max_traces=100)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(number) for number in range(100)])
        await rig.traffic(range(100, 300), 0.5)
        rig.kept.close()
    whole = [at for at, traces in server.sent if traces == 100]
    halves = [at for at, traces in server.sent if traces == 50]
    assert len(whole) == 5
    assert halves[0] > whole[-1] > whole[0] + 1
    assert set(rig.guilty) == hexed(3)


async def test_a_poison_trace_does_not_stop_its_lane(autojump_clock: MockClock) -> None:
    """Not even where one request at a time is allowed, and whatever it is refused with; 403 is a firewall's."""
    for status in (400, 403, 500, 503):
        server = Server(poison(status, 0), places=1, max_traces=1)
        rig = Rig(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            began = trio.current_time()
            await rig.traffic(range(100), 0.5)
            await trio.sleep(40)
            assert len(server.taken) == 99, status
            # A wrong setting is probed after 30 s, and the first probe is by another trace.
            longest = max(later - earlier for earlier, later in pairwise([0.0, *server.taken_at]))
            assert longest < 32, status
            assert trio.current_time() - began < 200, status
            await rig.traffic(range(100, 1000), 1)
            rig.kept.close()
        assert rig.guilty == dict.fromkeys(hexed(0), f"http_{status}")


async def test_what_blames_the_way_takes_five_minutes_beside_others_that_are_taken(autojump_clock: MockClock) -> None:
    server = Server(poison(503, 0), max_traces=1)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.traffic(range(290), 1)
        assert rig.letters.letters == []
        await rig.traffic(range(290, 400), 1)
        assert set(rig.guilty) == hexed(0)
        nursery.cancel_scope.cancel()


async def test_poison_at_the_end_of_the_traffic_is_found_by_knocking(autojump_clock: MockClock) -> None:
    """Nothing else can be its witness than an empty request, and a 400 blames the data."""
    server = Server(poison(400, 5))
    rig = Rig(server)
    await rig.all_of(*range(8))
    assert set(rig.guilty) == hexed(5)
    assert 1 <= server.knocks <= 5


async def test_a_500_with_nothing_else_to_send_is_held_until_something_else_is_taken(autojump_clock: MockClock) -> None:
    """A Collector without memory takes an empty request and nothing else: that it does says nothing of a 500."""
    server = Server(poison(500, 0))
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(0)])
        await trio.sleep(3600)
        assert rig.letters.letters == [] and server.knocks == 0
        assert rig.is_down()
        await rig.traffic(range(1, 200), 1)
        assert set(rig.guilty) == hexed(0)
        assert not rig.is_down()
        rig.kept.close()


async def test_by_knocking_alone_ten_at_most_are_given_up(autojump_clock: MockClock) -> None:
    """A server that takes only empty requests."""
    server = Server(lambda _now, _numbers: http(400))
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        nursery.start_soon(rig.traffic, range(500), 0.1)
        await trio.sleep(36_000)
        assert len(rig.letters.letters) <= 10
        assert rig.is_down()
        nursery.cancel_scope.cancel()


async def test_many_poison_traces_leave_at_a_bounded_pace(autojump_clock: MockClock) -> None:
    guilty = range(0, 1000, 5)
    server = Server(poison(400, *guilty))
    rig = Rig(server)
    times: list[float] = []

    async def put(letters: Sequence[DeadLetter]) -> None:
        times.extend(server.now for _ in letters)
        await original(letters)

    original, rig.letters.put = rig.letters.put, put  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(number) for number in range(1000)])
        await rig.traffic(range(1000, 1100), 0.5)
        rig.kept.close()
    assert set(rig.guilty) == hexed(*guilty)
    assert all(later - earlier >= 0.0999 for earlier, later in pairwise(times))


async def test_traces_that_are_too_large_together_are_taken_in_parts(autojump_clock: MockClock) -> None:
    server = Server(lambda _now, numbers: http(413) if len(numbers) > 30 else Accepted())
    rig = Rig(server)
    await rig.all_of(*range(1000))
    assert sorted(server.taken) == [*range(1000)]
    assert len(server.sent) < 150
    assert rig.letters.letters == []
    assert server.now < 60


async def test_a_server_that_is_too_slow_for_large_batches_gets_smaller_ones(autojump_clock: MockClock) -> None:
    """A missing answer blames the way. But where that is all there is, a part may be taken, and stops nobody for ever."""
    server = Server(lambda _now, numbers: Again("timeout", "no answer") if len(numbers) > 30 else Accepted())
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.traffic(range(2000), 0.5, 200)
        await trio.sleep(3600)
        assert sorted(server.taken) == [*range(2000)]
        rig.kept.close()
    assert rig.letters.letters == []


@pytest.mark.parametrize("status", [403, 503])
async def test_a_firewall_that_refuses_one_tenant_of_many_does_not_stop_the_others(
    autojump_clock: MockClock, status: int
) -> None:
    """With traces of that tenant in each batch, none is taken whole."""
    server = Server(poison(status, *range(0, 200, 10)), max_traces=20)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        nursery.start_soon(rig.traffic, range(200), 1, 20)
        await trio.sleep(7200)
        assert len(server.taken) > 20
        assert set(rig.guilty) <= hexed(*range(0, 200, 10))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [400, 500])
async def test_a_tenant_of_a_tenth_that_is_refused_does_not_stop_the_others(
    autojump_clock: MockClock, status: int
) -> None:
    """80 traces a second, one in ten of that tenant: no batch of more than a few has none of them."""
    server = Server(lambda _now, numbers: http(status) if any(each % 10 == 7 for each in numbers) else Accepted())
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        nursery.start_soon(rig.traffic, range(4000), 0.5, 40)
        await trio.sleep(1200)
        nursery.cancel_scope.cancel()
    assert len(server.taken) >= 3000, "of 3,600"
    guilty = [int(each.trace_id[:16], 16) - 1 for each in rig.letters.letters]
    assert all(number % 10 == 7 for number in guilty)


async def test_after_an_outage_that_a_small_piece_ended_batches_grow_again(autojump_clock: MockClock) -> None:
    server = Server(lambda now, _numbers: http(500) if now < 600 else Accepted())
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        nursery.start_soon(rig.traffic, range(30_000), 0.5, 300)
        await trio.sleep(1200)
        nursery.cancel_scope.cancel()
    assert len(server.taken) == 30_000 and not rig.letters.letters
    assert max(size for at, size in server.sent if at > 640) == 300, "as they are gathered"


async def test_what_cannot_be_written_needs_no_witness(autojump_clock: MockClock) -> None:
    """No server was asked, so it is no error of the way, and none is counted."""
    server = Server(lambda _now, numbers: Undeliverable("unencodable", "no spans") if 3 in numbers else Accepted())
    rig = Rig(server)
    await rig.all_of(*range(8))
    assert rig.guilty == dict.fromkeys(hexed(3), "unencodable")
    assert rig.meter.counted(measures.EXPORT_ERRORS) == 0
    assert server.now < 1


async def test_an_operator_releases_what_is_held(autojump_clock: MockClock) -> None:
    """What was refused goes to the dead letters with the reason it was refused for; what was never tried stays."""
    server = Server(lambda now, _numbers: http(500) if now < 500 else Accepted(), places=1, max_traces=10)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        nursery.start_soon(rig.traffic, range(200), 0.1, 10)
        await trio.sleep(400)
        held = rig.meter.watched[measures.EXPORTER_HELD.name, ("backend",)]()
        waiting = rig.lane.standing.waiting_traces
        assert 0 < held < waiting
        assert rig.lane.release() == held
        await trio.sleep(1)
        assert server.sent[-1][0] > 399.9, "whoever released wants to see how it goes on"
        assert set(rig.guilty.values()) == {"http_500"}
        assert len(rig.guilty) == held
        assert rig.lane.release() <= 10  # at most the one batch that was tried since
        await trio.sleep(200)
        assert len(server.taken) + len(rig.guilty) == 200
        nursery.cancel_scope.cancel()


async def test_an_operator_releases_a_trace_that_is_being_sent(autojump_clock: MockClock) -> None:
    class Slow(Server):
        async def send(self, traces: Sequence[Trace]) -> Outcome:
            await trio.sleep(10)
            return await super().send(traces)

    rig = Rig(Slow(poison(500, 0)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(0)])
        await trio.sleep(20)
        while rig.lane.release() != 1:
            await trio.sleep(1)
        await trio.sleep(11)
        assert set(rig.guilty) == hexed(0)
        rig.kept.close()
    assert rig.settled == 1


@pytest.mark.parametrize("knock", [True, False])
async def test_after_a_release_with_nothing_left_it_is_down_only_if_it_takes_not_even_an_empty_request(
    autojump_clock: MockClock, knock: bool
) -> None:
    """Else the alert would go on, and no replica be ready, until new traces come."""
    rig = Rig(Server(poison(500, 0), knock=knock))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(0)])
        await trio.sleep(600)
        assert rig.is_down()
        assert rig.lane.release() == 1
        await trio.sleep(60)
        assert set(rig.guilty) == hexed(0)
        assert rig.is_down() is not knock
        assert (rig.lane.standing.down_secs == 0) is knock
        rig.kept.close()


async def test_nothing_is_released_that_was_not_refused(autojump_clock: MockClock) -> None:
    rig = Rig(Server(lambda _now, _numbers: Accepted()))
    assert rig.lane.release() == 0
    await rig.all_of(1, 2)
    assert rig.lane.release() == 0


async def test_a_dense_poison_with_no_traffic_is_told_apart_by_its_own_halves(autojump_clock: MockClock) -> None:
    """While everything is refused a probe is halved: it costs no request more, and finds a half that is taken."""
    server = Server(poison(500, *range(0, 64, 8)))
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.kept.send([kept(number) for number in range(64)])
        await trio.sleep(1800)
        assert set(server.taken) >= set(range(64)) - set(range(0, 64, 8))
        assert set(rig.guilty) <= hexed(*range(0, 64, 8))
        nursery.cancel_scope.cancel()


async def test_a_few_batches_that_are_all_refused_do_not_keep_others_from_being_tried_for_ever(
    autojump_clock: MockClock,
) -> None:
    """At night a firewall refuses as many as may be sent at a time, and in the morning there is traffic again."""
    server = Server(poison(403, 0, 1, 2, 3), max_traces=1)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.traffic(range(4), 0.01)
        await trio.sleep(3600)
        nursery.start_soon(rig.traffic, range(4, 1000), 1)
        await trio.sleep(7200)
        assert set(server.taken) == {*range(4, 1000)}
        assert set(rig.guilty) == hexed(0, 1, 2, 3)
        nursery.cancel_scope.cancel()


async def test_many_that_are_refused_slowly_leave_room_for_others(autojump_clock: MockClock) -> None:
    """Each try of a poison trace takes ten seconds of the one request that is allowed at a time."""

    class Slow(Server):
        async def send(self, traces: Sequence[Trace]) -> Outcome:
            if isinstance(self.answer(0, [int.from_bytes(each.trace_id[:8], "big") - 1 for each in traces]), Rejected):
                await trio.sleep(10)
            return await super().send(traces)

    server = Slow(poison(500, *range(0, 40, 2)), places=1, max_traces=1)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        await rig.traffic(range(40), 0.01)
        nursery.start_soon(rig.traffic, range(40, 400), 0.01)
        before = len(server.taken)
        await trio.sleep(300)
        assert len(server.taken) - before >= 20
        nursery.cancel_scope.cancel()


async def test_where_many_requests_are_allowed_halving_makes_no_flood(autojump_clock: MockClock) -> None:
    """A 400 halves at once, and halves are refused at once: before the breaker opens they could double and double."""
    server = Server(lambda _now, _numbers: http(400), knock=False, places=16)
    rig = Rig(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        nursery.start_soon(rig.traffic, range(16_000), 0.01, 1000)
        await trio.sleep(60)
        assert len(server.sent) < 80
        nursery.cancel_scope.cancel()


async def test_what_was_tried_and_not_taken_is_not_called_untried(autojump_clock: MockClock) -> None:
    rig = Rig(Server(lambda _now, _numbers: http(500)))
    rig.health.starting("exporter backend")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.run)
        nursery.start_soon(rig.traffic, range(1), 1)
        await trio.sleep(0.5)
        component = rig.health.components["exporter backend"]
        nursery.cancel_scope.cancel()
    assert (component.state, component.detail) == (State.STARTING, "not taken yet: http_500: no")
