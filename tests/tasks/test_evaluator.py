"""What counts all spans before sampling, and the end of deciding."""

from __future__ import annotations

import attrs
import trio
from structlog.testing import capture_logs

from tests.core.spans import fragment, lone, record
from tests.fakes.meter import FakeMeter
from tests.tasks.parking import Owner, World
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.evaluation import Evaluated, observe
from tss.core.memory import Memory
from tss.core.partition import Partition
from tss.core.policies.rest import Rest
from tss.core.throttle import LOG_SECS
from tss.core.trace import Trace
from tss.state.sharing import Memories
from tss.state.turns import Turns
from tss.state.uncounted import Uncounted
from tss.tasks import evaluator
from tss.tasks.evaluator import VoteTimes


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


class Slow(Memories):
    """Redis answers the earlier batches later."""

    def __init__(self) -> None:
        self.asked = list[bytes]()

    async def recall(self, batch: list[Trace]) -> list[Trace]:
        self.asked += [trace.trace_id for trace in batch]
        await trio.sleep(10 - len(self.asked))
        return batch


async def test_law_3_several_evaluators_vote_in_closing_order(autojump_clock) -> None:
    """Though each waits for Redis meanwhile, all at the same time."""
    buffer, home, turns, slow = (
        Buffer(Limits(1 << 30, 99, 99, 99), Waits(1, 1, 1), Memory()),
        Partition(0, 0, 10**9),
        Turns(),
        Slow(),
    )
    for number in range(6):
        buffer.add(home, record(number, 1 + number, fragment(number, root=True)), 10**12)
    buffer.reach(home, 100_000)
    traces = buffer.take()
    voted = list[bytes]()

    class Votes(Rest):
        def vote(self, trace: Trace) -> float:
            voted.append(trace.trace_id)
            return super().vote(trace)

    closed_in, closed_out = trio.open_memory_channel[list[Trace]](6)
    kept, settled = trio.open_memory_channel[list[Trace]](6), trio.open_memory_channel[list[Trace]](6)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            deciding = attrs.evolve(
                Owner(World(), policy=Votes(1.0)).deciding, kept=kept[0].clone(), settled=settled[0].clone(),
                buffer=buffer, memories=slow, turns=turns, votes=VoteTimes(lambda: -1),
            )  # fmt: skip
            nursery.start_soon(evaluator.run, closed_out.clone(), deciding)
        for trace in traces:
            closed_in.send_nowait([trace])
        closed_in.close()
    closed_out.close()
    assert len(voted) == 6 and voted == [trace.trace_id for trace in traces]
    assert trio.current_time() - began < 9 + 8 + 7, "they wait at the same time"


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
