"""What the exporter task counts on from any Destination, real or fake."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from tests.core.spans import trace_id
from tests.edges.traces import span_ids, trace, trace_of
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Rejected, Undeliverable
from tss.state.lane import Destination

SpanId = tuple[bytes, bytes]


@attrs.frozen
class World:
    """A destination and what is behind it. What it cannot do is left None, and its clause is left out."""

    destination: Destination
    taken: Callable[[], set[SpanId]]
    go_away: Callable[[], None] | None = None  # from here it cannot be reached,
    come_back: Callable[[], None] | None = None  # until here
    hang: Callable[[], None] | None = None  # the next sends find no end; `come_back` ends that too
    reads_spans: bool = True  # notices bytes that are no spans


async def check_destination(world: World) -> None:
    """All clauses, one after the other. Raises AssertionError."""
    _has_sane_numbers(world.destination)
    await _takes_whole_traces(world)
    await _takes_several_at_a_time(world)
    await _takes_a_trace_again(world)
    await _survives_being_away(world)
    await _can_be_cancelled(world)
    await _answers_a_knock(world)
    await _answers_to_bytes_that_are_no_spans(world)


def _has_sane_numbers(destination: Destination) -> None:
    batching, retrying = destination.batching, destination.retrying
    assert destination.name
    assert batching.max_traces >= 1 and batching.max_bytes >= 1 and batching.max_in_flight >= 1
    assert batching.linger_secs >= 0
    assert 0 < retrying.initial_secs <= retrying.max_secs and retrying.probe_secs > 0
    assert type(destination).__name__ in repr(destination)


async def _takes_whole_traces(world: World) -> None:
    """Every span of every piece, of one trace and of many."""
    for batch in ([trace(1, pieces=1)], [trace(number, pieces=3) for number in range(2, 8)]):
        assert await world.destination.send(batch) == Accepted()
        assert span_ids(batch) <= world.taken()
    assert span_ids([trace(8)]).isdisjoint(world.taken())


async def _takes_several_at_a_time(world: World) -> None:
    batches = [[trace(10 * number), trace(10 * number + 1)] for number in range(1, 9)]
    outcomes: list[Outcome] = []

    async def send(number: int) -> None:
        outcomes.append(await world.destination.send(batches[number]))

    async with trio.open_nursery() as nursery:
        for number in range(len(batches)):
            nursery.start_soon(send, number)
    assert outcomes == [Accepted()] * len(batches)
    assert span_ids([each for batch in batches for each in batch]) <= world.taken()


async def _takes_a_trace_again(world: World) -> None:
    """After a crash what was sent may be sent once more."""
    batch = [trace(1)]
    assert await world.destination.send(batch) == Accepted()
    assert await world.destination.send(batch) == Accepted()


async def _survives_being_away(world: World) -> None:
    """Away is no error of the batch: it is never refused, and goes through when the destination is back."""
    if world.go_away is None or world.come_back is None:
        return
    batch = [trace(100), trace(101)]
    world.go_away()
    for _ in range(2):
        outcome = await world.destination.send(batch)
        assert isinstance(outcome, Again | Misconfigured)
        assert outcome.reason.replace("_", "").isalnum() and outcome.detail
    world.come_back()
    assert await world.destination.send(batch) == Accepted()
    assert span_ids(batch) <= world.taken()


async def _can_be_cancelled(world: World) -> None:
    """Stopping is bounded (law 9); and a destination goes on being one after a cancelled send."""
    if world.hang is None or world.come_back is None:
        return
    world.hang()
    began = trio.current_time()
    with trio.move_on_after(0.1) as scope:
        await world.destination.send([trace(200)])
    assert scope.cancelled_caught
    assert trio.current_time() - began < 1
    world.come_back()
    assert await world.destination.send([trace(201)]) == Accepted()


async def _answers_a_knock(world: World) -> None:
    """A request without spans: it takes nothing, and who is away does not answer."""
    before = world.taken()
    for _ in range(2):
        await world.destination.knock()
    assert world.taken() == before
    if world.go_away is not None and world.come_back is not None:
        world.go_away()
        assert await world.destination.knock() is False
        world.come_back()
    assert await world.destination.send([trace(210)]) == Accepted()


async def _answers_to_bytes_that_are_no_spans(world: World) -> None:
    """They cannot come from a scan; should they all the same, they are refused and harm no other trace."""
    if not world.reads_spans:
        return
    rotten = trace_of([b"\x0a\xff\xff\xff"], trace_id(300))
    outcome = await world.destination.send([rotten])
    assert isinstance(outcome, Undeliverable | Rejected)
    world.destination.forget([rotten])
    assert await world.destination.send([trace(301)]) == Accepted()
