"""Statistics are sent every ten seconds; what is not accepted is sent again, and nothing is taken meanwhile."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.core.test_apm_stats import NOW_NS, chunk, span
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Rejected, Retrying
from tss.core.formats.apm_stats import Concentrator, GroupedStats, StatsBody
from tss.tasks import apm_stats
from tss.tasks.apm_stats import ApmStatsSender


class FakeBackend:
    """Answers as it is told, then accepts; a request is one group."""

    retrying = Retrying(1.0)

    def __init__(self, *answers: Outcome) -> None:
        self.answers = [*answers]
        self.tries: list[tuple[float, bytes]] = []
        self.accepted: list[bytes] = []
        self.hangs = False

    async def encode(self, found: Sequence[GroupedStats]) -> Sequence[StatsBody]:
        await trio.lowlevel.checkpoint()
        return [StatsBody(1, f"{group.name.resource} {group.hits}".encode()) for group in found]

    async def send(self, part: StatsBody) -> Outcome:
        self.tries.append((trio.current_time(), part.body))
        if self.hangs:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        answer = self.answers.pop(0) if self.answers else Accepted()
        if isinstance(answer, Accepted):
            self.accepted.append(part.body)
        return answer


def sending(backend: FakeBackend, *names: str) -> ApmStatsSender:
    found = ApmStatsSender(Concentrator(NOW_NS), backend, FakeMeter(), random.Random(1))
    count(found, *names)
    return found


def count(what: ApmStatsSender, *names: str) -> None:
    for name in names:
        what.concentrator.add(b"", [chunk("shop", span(1, name=name))], False)


async def test_what_was_counted_is_sent_every_ten_seconds(autojump_clock: MockClock) -> None:
    backend = FakeBackend()
    what = sending(backend, "a", "a", "b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(apm_stats.run, what, 1, trio.Event())
        await trio.sleep(9)
        assert not backend.tries
        await trio.sleep(2)
        assert backend.accepted == [b"a 2", b"b 1"]
        count(what, "a")
        await trio.sleep(10)
        assert backend.accepted[2:] == [b"a 1"]
        nursery.cancel_scope.cancel()
    meter = what.meter
    assert isinstance(meter, FakeMeter)
    assert meter.counted(measures.STATS_SPANS) == 4
    assert meter.counted(measures.STATS_PAYLOADS, "sent") == 3


async def test_it_is_sent_again_until_it_is_accepted_and_counting_goes_on(autojump_clock: MockClock) -> None:
    backend = FakeBackend(Again("http_503", ""), Misconfigured("http_403", ""), Again("connect", "", 7.0))
    what = sending(backend, "a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(apm_stats.run, what, 1, trio.Event())
        await trio.sleep(11)
        count(what, "a", "a", "a")
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert backend.accepted == [b"a 1", b"a 3"]
    waits = [later - earlier for (earlier, _), (later, _) in zip(backend.tries, backend.tries[1:], strict=False)]
    assert waits[0] < 2
    assert waits[1] >= backend.retrying.probe_secs
    assert waits[2] >= 7


async def test_what_is_refused_does_not_stop_the_rest(autojump_clock: MockClock) -> None:
    """One answer proves nothing: it goes again, and is taken."""
    backend = FakeBackend(Rejected("http_400", "", blames_data=True))
    what = sending(backend, "a", "b")
    assert await what.flush() == 0
    assert backend.accepted == [b"b 1", b"a 1"]
    assert isinstance(what.meter, FakeMeter)
    assert what.meter.counted(measures.STATS_PAYLOADS, "http_400") == 1


@pytest.mark.parametrize("status", [400, 500])
async def test_what_is_refused_while_others_are_taken_is_lost_after_five_tries(
    autojump_clock: MockClock, status: int
) -> None:
    class Picky(FakeBackend):
        async def send(self, part: StatsBody) -> Outcome:
            if part.body.startswith(b"bad"):
                self.tries.append((trio.current_time(), part.body))
                return Rejected(f"http_{status}", "", blames_data=status == 400)
            return await super().send(part)

    backend = Picky()
    what = sending(backend, "bad", "a")
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(apm_stats.run, what, 1, trio.Event())
            for _ in range(20):
                await trio.sleep(10)
                count(what, "a")
            nursery.cancel_scope.cancel()
    assert 5 <= [body for _, body in backend.tries].count(b"bad 1") <= 8  # some with nothing else to send
    assert sum(int(body.split()[1]) for body in backend.accepted) >= 19
    assert [line["event"] for line in lines if line["log_level"] == "warning"][-1] == "APM statistics were refused"


@pytest.mark.parametrize("status", [400, 500])
async def test_where_everything_is_refused_nothing_is_lost_and_little_is_held(
    autojump_clock: MockClock, status: int
) -> None:
    """For an hour; the concentrator, which is bounded, counts on."""

    class Sick(FakeBackend):
        well = False

        async def send(self, part: StatsBody) -> Outcome:
            if not self.well:
                self.tries.append((trio.current_time(), part.body))
                return Rejected(f"http_{status}", "", blames_data=status == 400)
            return await super().send(part)

    backend = Sick()
    what = sending(backend)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(apm_stats.run, what, 1, trio.Event())
        for _ in range(360):
            count(what, "a")
            await trio.sleep(10)
        assert len(backend.tries) <= 361
        assert len(what._held) == apm_stats.MAX_HELD
        backend.well = True
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert sum(int(body.split()[1]) for body in backend.accepted) == 360


async def test_a_stop_sends_once_more_and_is_bounded(autojump_clock: MockClock) -> None:
    backend, done = FakeBackend(), trio.Event()
    what = sending(backend, "a")
    done.set()
    await apm_stats.run(what, 2, done)
    assert backend.accepted == [b"a 1"]
    backend.hangs = True
    count(what, "a")
    began = trio.current_time()
    await apm_stats.run(ApmStatsSender(what.concentrator, backend, FakeMeter(), random.Random(1)), 2, done)
    assert trio.current_time() - began <= 2


async def test_a_stop_in_the_middle_of_a_try_loses_nothing(autojump_clock: MockClock) -> None:
    backend, done = FakeBackend(), trio.Event()
    what = sending(backend, "a")
    backend.hangs = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(apm_stats.run, what, 2, done)
        await trio.sleep(11)
        backend.hangs = False
        count(what, "b")
        done.set()
    assert backend.accepted == [b"a 1", b"b 1"]
