"""SpanMetricsSender span metrics: regularly, with a last one at the end, and never in anybody's way (laws 8 and 9)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import trio
from structlog.testing import capture_logs

from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Undeliverable
from tss.tasks import spanmetrics
from tss.tasks.spanmetrics import REQUEST_BYTES, TRIES, SpanMetricsSender

INTERVAL, LAST = 60.0, 2.0


class Report:
    """Numbers that grow by one with each look."""

    def __init__(self, parts: int = 1, size: int = 10) -> None:
        self.spans = 0
        self.upto: list[int] = []
        self._parts, self._size = parts, size

    def requests(self, now_ns: int) -> Iterator[bytes]:
        self.spans += 1
        assert self.spans < 100, "it is sent without an interval between"
        for _ in range(self._parts):
            yield bytes(self._size)

    def told(self, upto: int) -> None:
        self.upto.append(upto)


class Backend:
    """Answers as it is told, then accepts; hangs for None."""

    def __init__(self, *answers: Outcome | None) -> None:
        self.answers = [*answers]
        self.taken: list[tuple[float, int]] = []

    async def send(self, body: bytes) -> Outcome:
        self.taken.append((trio.current_time(), len(body)))
        answer = self.answers.pop(0) if self.answers else Accepted()
        if answer is None:
            await trio.sleep_forever()
        assert answer is not None
        return answer


def sending(backend: Backend, report: Report | None = None) -> SpanMetricsSender:
    return SpanMetricsSender(report or Report(), backend, FakeMeter(), random.Random(1))


async def during(sending: SpanMetricsSender, secs: float) -> float:
    """Run for so long; returns how long the end takes."""
    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(spanmetrics.run, sending, INTERVAL, LAST, done)
        await trio.sleep(secs)
        done.set()
        began = trio.current_time()
    return trio.current_time() - began


def results(sending: SpanMetricsSender) -> dict[str, float]:
    assert isinstance(sending.meter, FakeMeter)
    return {labels[0]: count for labels, count in sending.meter.by_label(measures.SPAN_METRICS_EXPORTS).items()}


async def test_every_interval_and_once_more_at_the_end(autojump_clock):
    backend = Backend()
    each = sending(backend)
    began = trio.current_time()
    assert await during(each, 150) == 0
    assert [round(at - began) for at, _ in backend.taken] == [60, 120, 150]
    assert results(each) == {"ok": 3}


async def test_a_backend_that_hangs_stops_nothing(autojump_clock):
    backend = Backend(None, None)
    each = sending(backend)
    assert await during(each, 125) == LAST
    assert results(each) == {"timeout": 1}


async def test_a_try_that_failed_is_made_again(autojump_clock):
    backend = Backend(Again("http_503", "away"), Again("http_503", "away", after_secs=7))
    each = sending(backend)
    await during(each, 90)
    times = [at for at, _ in backend.taken[:TRIES]]
    assert times[2] - times[1] == pytest.approx(7)
    assert results(each) == {"ok": 2}


@pytest.mark.parametrize(
    ("answer", "tries"),
    [(Again("timeout", "away"), TRIES), (Misconfigured("http_401", "no"), 1), (Undeliverable("http_400", "bad"), 1)],
)
async def test_what_cannot_be_sent_goes_with_the_next_sending(autojump_clock, answer, tries):
    backend, report = Backend(*[answer] * tries), Report()
    each = sending(backend, report)
    with capture_logs() as logs:
        await during(each, 130)
    assert len(backend.taken) == tries + 2
    assert results(each) == {answer.reason: 1, "ok": 2}
    assert report.upto == [1, 2]  # as far as it was counted when the sending began
    assert [line["reason"] for line in logs] == [answer.reason]


async def test_an_outage_is_told_from_time_to_time(autojump_clock):
    each = sending(Backend(*[Misconfigured("http_401", "no")] * 1000))
    with capture_logs() as logs:
        await during(each, 10 * INTERVAL)
    assert 1 <= len(logs) <= 11
    assert results(each)["http_401"] >= 10


async def test_rejected_points_are_counted(autojump_clock):
    each = sending(Backend(Accepted(5, "too old")))
    await during(each, 70)
    assert results(each) == {"rejected": 1, "ok": 1}


async def test_requests_are_of_a_size_that_is_taken(autojump_clock):
    backend = Backend()
    await during(sending(backend, Report(parts=10, size=REQUEST_BYTES // 3)), 1)
    assert [size for _, size in backend.taken] == [3 * (REQUEST_BYTES // 3)] * 3 + [REQUEST_BYTES // 3]


async def test_nothing_is_sent_while_nothing_is_counted(autojump_clock):
    backend = Backend()
    await during(sending(backend, Report(parts=0)), 70)
    assert backend.taken == []
