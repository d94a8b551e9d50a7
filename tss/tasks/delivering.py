"""Sends the batches of one destination until every trace is taken or given up, for as long as that takes.

`core/evidence.py` decides what a refusal means; this module acts on it. If other batches are taken, a refused piece waits alone
and holds nothing else back. If nothing is taken, the breaker is open: one piece at a time is sent as a probe, and no new batch
is gathered, so the channels fill and reading pauses.

A destination may refuse many traces, such as all of one tenant. Then each large batch contains one of them. So new batches get
half the size of the last refused one, and twice the size again once such a part is taken.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable

import attrs
import trio

from tss.core import measures
from tss.core.delivery import Accepted, Again, Misconfigured, Rejected, Undeliverable
from tss.core.evidence import WAY_SECS, Blame, Evidence, NextStep, Piece
from tss.core.trace import Trace
from tss.state import lane as ways
from tss.state.lane import Lane

# Between two traces that are given up by evidence. Ten a second: a wrong conclusion is noticed before it costs many traces.
GIVE_UP_SECS = 0.1
NEVER_TRIED = -1
FRESH_PROBES = 100  # one probe in so many is a new batch, however many pieces are held
FRESH_PARTS = 5  # the same while new batches are cut: these are few traces, and most likely to be taken


@attrs.define(eq=False)
class Held(Piece[Trace]):
    """A piece of a batch, and when its turn is."""

    due: float = -math.inf
    turn: int = 0  # the number of its last try; if it was never tried, the number of tries when it arrived
    released: bool = False  # by an operator, while it was being sent


class Delivering:
    """The batches of one lane. Only `run` and the tasks that it starts wait."""

    def __init__(self, lane: Lane, pass_on: Callable[[list[Trace]], Awaitable[None]]) -> None:
        """``pass_on`` takes the traces that the destination has taken, or that were given up."""
        self._lane = lane
        self._pass_on = pass_on
        self._evidence = Evidence()
        self._fresh: Held | None = None  # a batch, or a part of one, that was never tried
        self._most = sys.maxsize  # traces in a new batch
        self._mixed_at = (
            -math.inf
        )  # the last time it refused some traces as if the settings were wrong, and took others
        self._held: list[Held] = []  # refused, waiting for the next try
        self._sending: set[Held] = set()
        self._ended = False  # no more batches come
        self._tries = 0
        self._was_held = False  # whether the last piece sent was a held one
        self._given_up_in, self._given_up = trio.open_memory_channel[tuple[Held, float]](math.inf)
        self._changed = trio.Event()
        lane.release = self.release
        lane.meter.watch(measures.EXPORTER_HELD, lambda: self.held_traces, lane.destination.name)

    def __repr__(self) -> str:
        return f"<Delivering {len(self._held)} pieces held, {len(self._sending)} sent now, {self._evidence!r}>"

    @property
    def held_traces(self) -> int:
        """Traces that were refused and will be tried again."""
        return sum(len(each.items) for each in (*self._held, *self._sending) if each.seen >= 0)

    async def run(self, gather: Callable[[], Awaitable[list[Trace]]]) -> None:
        """Until ``gather`` gives an empty batch and everything is delivered."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gather, gather)
            nursery.start_soon(self._give_up)
            while not self._is_over():
                piece, again_at = self._next(trio.current_time())
                if piece is not None:
                    self._sending.add(piece)
                    nursery.start_soon(self._deliver, piece)
                    continue
                with trio.move_on_at(again_at):
                    await self._changed.wait()
            self._given_up_in.close()

    def release(self) -> int:
        """Give up the refused traces that are held, and those being sent now unless they are taken; returns their number."""
        released = [each for each in self._held if each.seen >= 0]
        self._held = [each for each in self._held if each.seen < 0]
        for each in released:
            self._given_up_in.send_nowait((each, 0.0))
        under_way = [each for each in self._sending if each.seen >= 0]
        for each in under_way:
            each.released = True
        if released and self._lane.breaker.is_open:
            self._lane.breaker.probe_at = trio.current_time()  # whoever released wants to see the result now
        self._wake()
        return sum(len(each.items) for each in (*released, *under_way))

    # -- what is sent next

    async def _gather(self, gather: Callable[[], Awaitable[list[Trace]]]) -> None:
        while batch := await gather():
            while batch:
                part, batch = batch[: self._most], batch[self._most :]
                self._fresh = Held(part, turn=self._tries)
                self._wake()
                while self._fresh is not None:
                    await self._changed.wait()
        self._ended = True
        self._wake()

    def _is_over(self) -> bool:
        return self._ended and self._fresh is None and not self._held and not self._sending

    def _next(self, now: float) -> tuple[Held | None, float]:
        """The piece to send now; or None, and when to look again."""
        piece, again_at = self._probe(now) if self._lane.breaker.is_open else self._usual(now)
        if piece is None:
            return None, again_at
        self._was_held = piece is not self._fresh
        if self._was_held:
            self._held.remove(piece)
        else:
            self._fresh = None
            self._wake()
        self._tries += 1
        piece.turn = self._tries
        return piece, now

    def _usual(self, now: float) -> tuple[Held | None, float]:
        """New batches and due pieces in turn, so that neither keeps the other from being sent."""
        places = self._lane.destination.batching.max_in_flight
        if len(self._sending) >= places:
            return None, math.inf
        due = min(self._held, key=_due, default=None)
        # A held piece without a witness keeps its place in flight: while nothing is taken, little is tried. One place stays
        # free for a new batch.
        unclear = sum(each.counted < 2 and not self._evidence.has_witness(each) for each in self._held)
        is_fresh = self._fresh is not None and len(self._sending) + unclear < max(2, places)
        if due is not None and due.due <= now and not (is_fresh and self._was_held):
            return due, now
        if is_fresh:
            return self._fresh, now
        return None, math.inf if due is None else max(due.due, now)

    def _probe(self, now: float) -> tuple[Held | None, float]:
        """The piece that was never tried, or was tried longest ago; of several the smallest."""
        breaker, chance = self._lane.breaker, self._lane.chance
        if self._sending:
            return None, math.inf
        if now < breaker.probe_at:
            return None, breaker.probe_at
        every = [*self._held]
        if self._fresh is not None and self._may_probe_fresh():
            if breaker.probes == 1:  # the quickest answer: if it is taken, the refusals are about the data
                return self._fresh, now
            every.append(self._fresh)
        return min(every, key=lambda each: (each.turn, len(each.items), chance.random()), default=None), math.inf

    def _may_probe_fresh(self) -> bool:
        """New batches must not pile up while nothing is taken: what is held is as good a probe. But where it is all single
        traces that a server refuses, or an unlucky few batches, only a new one can be taken.
        """
        held = sum(len(each.items) > 1 or each.blame is Blame.WAY for each in self._held)
        places = max(2, self._lane.destination.batching.max_in_flight)
        often = FRESH_PROBES if self._most >= self._lane.destination.batching.max_traces else FRESH_PARTS
        return held < places or self._lane.breaker.probes % often == 0

    def _waiting(self) -> int:
        return sum(not self._evidence.has_witness(each) for each in self._held)

    # -- one try

    async def _deliver(self, piece: Held) -> None:
        # It keeps its place in flight until the next stage has it. If that stage is stuck, sending on would only mean that
        # more is sent twice after a crash.
        try:
            await self._try(piece)
        finally:
            self._sending.discard(piece)
            self._wake()

    async def _try(self, piece: Held) -> None:
        knocked = self._evidence.wants_knock(piece) and self._fresh is None and await self._lane.destination.knock()
        outcome = await ways.send(self._lane, piece.items)
        match outcome:
            case Accepted():
                self._evidence.takes(piece)
                self._learn_size(piece)
                self._lane.works()
                await ways.account(self._lane, piece.items, outcome)
                await self._pass_on([*piece.items])
            case Undeliverable():
                await self._is_refused(piece, outcome)
            case _:
                self._is_not_taken(piece, outcome, knocked=knocked)

    def _learn_size(self, piece: Held) -> None:
        """Learn the size of new batches from a piece that was taken."""
        if piece.whole is not None and self._lane.breaker.is_open:  # all larger ones were refused
            self._most = min(self._most, len(piece.items))
        elif piece.whole is None and len(piece.items) >= self._most:
            self._most = 2 * len(piece.items)

    async def _is_refused(self, piece: Held, outcome: Undeliverable) -> None:
        """It can never be sent in this form, so no evidence is needed."""
        if len(piece.items) > 1:
            self._halve(piece)
        else:
            await ways.dead_letter(self._lane, piece.items, outcome.reason, outcome.detail)
            self._lane.destination.forget(piece.items)
            await self._pass_on([*piece.items])

    def _is_not_taken(self, piece: Held, outcome: Again | Misconfigured | Rejected, *, knocked: bool) -> None:
        lane, now = self._lane, trio.current_time()
        counts = self._evidence.refuses(piece, outcome, now, knocked=knocked)
        if piece.released:
            self._given_up_in.send_nowait((piece, 0.0))
            return
        probes = None
        if lane.breaker.is_open:
            probes = max(0, self._waiting() - lane.destination.batching.max_in_flight)
        is_smallest = all(len(piece.items) <= len(each.items) for each in self._held)
        step = self._evidence.next_step(piece, now, counts=counts, probes=probes, is_smallest=is_smallest)
        if step is NextStep.GIVE_UP:
            lane.works()  # it takes other requests, so this piece is given up
            self._given_up_in.send_nowait((piece, GIVE_UP_SECS))
            return
        self._look_at_way(piece, outcome)
        # While the breaker is open its own backoff applies; once it closes, no piece has to wait.
        wait_secs = 0.0 if lane.breaker.is_open else lane.wait_secs(outcome, piece.tries)
        if step is NextStep.HALVE:
            self._halve(piece)
        else:
            piece.due = now + wait_secs
            self._held.append(piece)
        if piece.is_singled_out:
            self._mixed_at = now if isinstance(outcome, Misconfigured) else self._mixed_at
            lane.refuses(outcome, len(piece.items))
        elif not lane.breaker.is_open:
            lane.fails(outcome, wait_secs)

    def _look_at_way(self, piece: Held, outcome: Again | Misconfigured | Rejected) -> None:
        """Open the breaker when nothing is taken."""
        if (
            self._lane.breaker.is_open
            or piece.alone > self._lane.destination.retrying.quick_tries
            or (isinstance(outcome, Misconfigured) and not piece.is_singled_out and not self._is_mixed())
        ):
            self._lane.stays_down(outcome)

    def _is_mixed(self) -> bool:
        """Whether "wrong credentials" concern only some traces: a firewall, or the quota of a tenant."""
        return trio.current_time() - self._mixed_at < WAY_SECS

    def _halve(self, piece: Held) -> None:
        # What a part of it has says nothing new of how many there are; nor does one that takes nothing.
        if piece.whole is None and not self._lane.breaker.is_open:
            self._most = min(self._most, max(1, len(piece.items) // 2))
        for half in piece.halves():
            half.due, half.turn = -math.inf, NEVER_TRIED
            self._held.append(half)

    # -- giving up

    async def _give_up(self) -> None:
        async for piece, pause_secs in self._given_up:
            await ways.dead_letter(self._lane, piece.items, piece.reason, piece.detail)
            self._lane.destination.forget(piece.items)
            await self._pass_on([*piece.items])
            # After a release no piece may be left to probe with. The destination would be down until new traces come.
            if self._is_idle_and_down() and await self._lane.destination.knock() and self._is_idle_and_down():
                self._lane.works()
            await trio.sleep(pause_secs)

    def _is_idle_and_down(self) -> bool:
        return self._lane.breaker.is_open and self._fresh is None and not self._held and not self._sending

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _due(piece: Held) -> float:
    return piece.due
