"""What counts all spans before sampling, and the end of deciding."""

from __future__ import annotations

import trio
from structlog.testing import capture_logs

from tests.core.spans import fragment, lone
from tests.fakes.meter import FakeMeter
from tests.tasks.parking import Owner, World
from tss.core import measures
from tss.core.evaluation import Evaluated, observe
from tss.core.partition import Partition
from tss.core.throttle import LOG_SECS
from tss.core.trace import Trace
from tss.state.uncounted import Uncounted
from tss.tasks import evaluator


class Breaks:
    """Cannot count anything."""

    def add(self, trace_id: bytes, chunks: list[bytes], kept: bool) -> None:
        raise OverflowError("cannot convert float infinity to integer")


class Counts:
    """Counts traces."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, bool]] = []

    def add(self, trace_id: bytes, chunks: list[bytes], kept: bool) -> None:
        self.seen.append((trace_id, kept))


def held(number: int) -> Trace:
    part = fragment(number)
    trace = Trace(part.trace_id, Partition(0, 0, 300_000), number)
    trace.home.ledger.read(number)
    trace.absorb(lone(part), 0)
    trace.hold(trace.home, number, lone(part), 0)
    return trace


async def test_law_9_when_no_more_traces_close_those_who_deliver_and_settle_hear_of_the_end() -> None:
    """Else a stop would take all of its time."""
    owner = Owner(World())
    closed_in, closed_out = trio.open_memory_channel[list[Trace]](0)
    closed_in.close()
    await evaluator.run(closed_out, owner.deciding)
    ended = []
    for name, end in (("kept", owner.kept), ("settled", owner.settled)):
        try:
            end.receive_nowait()
        except trio.EndOfChannel:
            ended.append(name)
        except trio.WouldBlock:
            pass
    assert ended == ["kept", "settled"]


def test_what_cannot_be_counted_ends_nothing_and_others_count_on() -> None:
    """Ended by it, the daemon would read the same trace at its next start."""
    counts = Counts()
    kept, dropped = held(1), held(2)
    failed: list[tuple[object, Exception]] = []
    breaks = Breaks()
    observe(
        Evaluated(kept=[kept], ended=[dropped]),
        [breaks, counts],
        lambda observer, error: failed.append((observer, error)),
    )
    assert [(observer, type(error)) for observer, error in failed] == [(breaks, OverflowError)] * 2
    assert counts.seen == [(kept.trace_id, True), (dropped.trace_id, False)]


async def test_what_each_trace_may_trigger_is_told_from_time_to_time(autojump_clock) -> None:
    """One producer can make every trace so; a line with a traceback for each would be all that is in the log."""
    meter = FakeMeter()
    uncounted, found = Uncounted(meter), Evaluated(kept=[held(number) for number in range(100)])
    with capture_logs() as logged:
        observe(found, [Breaks()], uncounted)
        await trio.sleep(LOG_SECS)
        observe(found, [Breaks()], uncounted)
    assert [line["count"] for line in logged] == [1, 100]
    assert {line["by"] for line in logged} == {"Breaks"} and "infinity" in str(logged[0]["reason"])
    assert meter.counted(measures.UNCOUNTED_TRACES, "Breaks") == 200
