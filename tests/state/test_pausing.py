"""A pause says for whom reading waits, since when, and when it goes on."""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.core.spans import fragment, lone
from tests.fakes.deadletters import FakeDeadLetters
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.delivery import Accepted, Again, Batching, Outcome, Retrying
from tss.core.health import READING, Health, State
from tss.core.partition import Partition
from tss.core.trace import Trace
from tss.edges.web import pages
from tss.state.lane import Lane
from tss.state.pausing import Pausing
from tss.state.standing import Standing
from tss.tasks import exporter

EPOCH_SECS = 1_750_000_000.0


def health() -> Health:
    began = trio.current_time()
    return Health(lambda: EPOCH_SECS + trio.current_time() - began)


def traces(count: int) -> list[Trace]:
    home = Partition(0, 0, 0)
    made = [Trace(bytes(15) + bytes([number]), home, number) for number in range(count)]
    for number, trace in enumerate(made):
        home.ledger.read(number)
        trace.absorb(lone(fragment(number)), 0)
        trace.hold(home, number, lone(fragment(number)), 0)
    return made


async def test_a_pause_names_the_destination_that_is_down(autojump_clock: MockClock) -> None:
    known, meter = health(), FakeMeter()
    ways = [Standing("quick"), Standing("slow"), Standing("away")]
    ways[1].waiting.update(traces(7))
    ways[2].waiting.update(traces(3))
    ways[2].is_down(30.0)
    known.up("kafka")
    known.down("exporter away", "connect: refused")
    pausing = Pausing(known, meter, ways)
    with capture_logs() as lines:
        pausing.begins()
        await trio.sleep(12.5)
        shown = known.particular(READING)
        reason = pages.unready(known)
        pausing.ends()
    assert len(lines) == 2
    begins, ends = lines
    assert begins["waits_for"] == "exporter away is down"
    assert (begins["log_level"], begins["waiting_traces"], begins["next_try_secs"]) == ("warning", 3, 30.0)
    assert begins["waiting_bytes"] > 0
    assert (ends["log_level"], ends["paused_secs"]) == ("info", 12.5)
    assert shown.keys() >= {"paused_secs", "waits_for", "next_try_secs"}
    assert (shown["paused_secs"], shown["waits_for"], shown["next_try_secs"]) == (12.5, "exporter away is down", 17.5)
    assert "exporter away is down since 2025-06-15T15:06:40+00:00: connect: refused" in reason
    assert "reading is paused since 2025-06-15T15:06:40+00:00" in reason
    assert known.components[READING].state is State.UP
    assert (meter.counted(measures.PAUSES), meter.gauges[measures.PAUSED.name, ()]) == (1, 0)


async def test_a_pause_for_a_slow_destination_leaves_the_replica_ready(autojump_clock: MockClock) -> None:
    known = health()
    known.up("kafka")
    ways = [Standing("quick"), Standing("slow")]
    ways[1].waiting.update(traces(2))
    pausing = Pausing(known, FakeMeter(), ways)
    pausing.begins()
    assert known.components[READING].state is State.DEGRADED
    assert known.components[READING].detail == "paused: exporter slow is slow"
    assert known.ready and pages.unready(known) == ""


async def test_pauses_that_flap_have_a_line_from_time_to_time(autojump_clock: MockClock) -> None:
    pausing = Pausing(health(), FakeMeter())
    with capture_logs() as lines:
        for _ in range(100):
            pausing.begins()
            await trio.sleep(0.5)
            pausing.ends()
            await trio.sleep(0.5)
    begins = [line for line in lines if "pauses" in line]
    assert sum(line["pauses"] for line in begins) > 60
    assert len(begins) == 4 and len(lines) == 8, "each with its end"
    assert begins[0]["waits_for"] == "deciding and preparing traces is slow"


class Away:
    """A destination that takes nothing before it is told to."""

    name = "away"
    batching = Batching(max_traces=2, max_bytes=1 << 20, linger_secs=0.0, max_in_flight=1)
    retrying = Retrying(initial_secs=1.0, max_secs=8.0, quick_tries=0)
    comes_last = False

    def __init__(self) -> None:
        self.works = False

    async def send(self, batch: Sequence[Trace]) -> Outcome:
        await trio.sleep(0.1)
        return Accepted() if self.works else Again("connect", "refused")

    async def knock(self) -> bool:
        return self.works

    def forget(self, traces: Sequence[Trace]) -> None:
        pass


async def test_what_waits_for_a_destination_is_known_until_it_is_taken(autojump_clock: MockClock) -> None:
    known, away = health(), Away()
    lane = Lane("t", away, FakeDeadLetters(), known, FakeMeter(), random.Random(1))
    kept_in, kept_out = trio.open_memory_channel[list[Trace]](10)
    settled_in, settled_out = trio.open_memory_channel[list[Trace]](10)
    with capture_logs() as lines, trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exporter.run, kept_out, settled_in, [lane], FakeMeter())
            batch = traces(5)
            await kept_in.send(batch)
            await trio.sleep(20)
            shown = known.particular("exporter away")
            assert (shown["waiting_traces"], shown["waiting_bytes"]) == (5, sum(trace.size for trace in batch))
            assert 19 < float(str(shown["down_secs"])) <= 20 and 0 <= float(str(shown["next_try_secs"])) <= 8
            assert known.components["exporter away"].since_secs == EPOCH_SECS + 0.1
            away.works = True
            await settled_out.receive()
            kept_in.close()
        shown = known.particular("exporter away")
    assert shown == {"waiting_traces": 0, "waiting_bytes": 0}
    down = next(line for line in lines if line["event"].startswith("destination did not take"))
    assert down["waiting_traces"] == 5 and down["next_try_secs"] >= 0
    (back,) = [line for line in lines if line["event"] == "destination takes batches again"]
    assert back["down_secs"] > 19
