"""Settles ended traces in the ledger, and commits offsets. No other task commits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog
import trio

from tss.core import measures
from tss.core.buffer import Buffer
from tss.core.errors import CannotCommit
from tss.core.measures import Meter
from tss.core.partition import Commit
from tss.core.trace import Trace
from tss.state.assignments import Assignments
from tss.state.debug_lines import tell_commit

log = structlog.get_logger()

AGAIN_SECS = 0.5  # after a commit, while decisions wait for one


class Offsets(Protocol):
    """Where offsets are committed."""

    async def commit(self, commits: Mapping[int, Commit]) -> None:
        """Commit by partition; returns when Kafka has them. Raises CannotCommit."""


async def run(
    settled: trio.MemoryReceiveChannel[list[Trace]],
    offsets: Offsets,
    assignments: Assignments,
    buffer: Buffer,
    meter: Meter,
    stop: trio.Event,
    interval_secs: float,
    last_commit_secs: float,
    hand_over: Callable[[], Awaitable[None]] | None = None,
    hand_over_secs: float = 0.0,
    upstream_ended: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Until the channel ends or the scope is cancelled; then one last commit, within ``last_commit_secs``.

    Before it, ``hand_over`` (if given) parks open traces for the next owners, within ``hand_over_secs``. There is no last
    commit if nobody asked to stop, or if a task upstream died or did not end: its bookkeeping may be wrong.
    ``upstream_ended`` waits for all these tasks, within ``last_commit_secs``.
    """
    due = trio.current_time() + interval_secs
    try:
        while True:
            if not assignments.hurried:
                with trio.move_on_at(due) as assignments.waiting:
                    buffer.settle_all(await settled.receive())
                    continue
            assignments.hurried = False
            await _commit(offsets, assignments, meter)
            due = trio.current_time() + min(interval_secs, AGAIN_SECS if assignments.is_awaited else interval_secs)
    except trio.EndOfChannel:
        pass
    except Exception:
        assignments.distrust()
        raise
    finally:
        _settle_rest(settled, buffer)
        assignments.settling = False  # leaving the group need not wait: no trace is settled any more
        began = trio.current_time()
        with trio.move_on_after(last_commit_secs, shield=True) as upstream:
            if upstream_ended is not None:
                await upstream_ended()
        last_commit_secs -= trio.current_time() - began
        if upstream.cancelled_caught or not stop.is_set():
            assignments.distrust()
        if hand_over is not None and assignments.trusted:
            with trio.move_on_after(hand_over_secs, shield=True) as handing:
                await hand_over()
            if handing.cancelled_caught:
                log.warning(
                    "not all open traces could be parked in time; their next owner reads the rest from Kafka again"
                )
        # Shielded: delivered traces must be committed even after the stop's deadline. Bounded: law 9.
        with trio.move_on_after(last_commit_secs, shield=True) as last:
            await _commit(offsets, assignments, meter)
        if last.cancelled_caught:
            log.warning("the last commit did not finish in time; its records will be read again")


def _settle_rest(settled: trio.MemoryReceiveChannel[list[Trace]], buffer: Buffer) -> None:
    with settled:
        try:
            while True:
                buffer.settle_all(settled.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            pass


async def _commit(offsets: Offsets, assignments: Assignments, meter: Meter) -> None:
    due = assignments.due()
    if not due:
        return
    await assignments.before_commit(due)
    try:
        await offsets.commit(due)
    except CannotCommit as error:
        meter.count(measures.COMMITS, 1, "failed")
        log.warning("offsets not committed; the next commit covers them", reason=str(error))
    else:
        assignments.committed(due)
        meter.count(measures.COMMITS, 1, "ok")
        tell_commit(due)
