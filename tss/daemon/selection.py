"""The selection: every channel, every task and the order of stopping, on one screen."""

from __future__ import annotations

import math
from functools import partial
from typing import TypeVar

import structlog
import trio

from tss.core import measures
from tss.core.health import Health
from tss.core.trace import Trace
from tss.daemon.outside import Outside
from tss.daemon.wiring import wire
from tss.settings import Settings
from tss.tasks import (
    committer,
    consumer,
    evaluator,
    exporter,
    keeper,
    preparer,
    scaler,
    sweeper,
    trainer,
    unparker,
)
from tss.tasks.consumer import Batch

log = structlog.get_logger()
T = TypeVar("T")

# The bound of each channel, and why. A batch of closed traces has at most 500 traces or 2 MiB. The bytes that are closed
# and not settled have a limit of their own besides (Limits.closed_bytes).
POLLED_BATCHES = 2  # one in work, one ready; the records of a poll wait in librdkafka, bounded in bytes
CLOSED_BATCHES = 8  # a burst of deadlines in one second should not stop reading while evaluators have a turn
KEPT_BATCHES = 2  # one ready while one is prepared
PREPARED_BATCHES = 4  # enough for every destination to gather its next batch; more would only hide a slow one
SETTLED_BATCHES = 64  # settling is the cheapest step and waits for nothing; only a scheduling turn is bridged


async def select(settings: Settings, outside: Outside, stop: trio.Event) -> None:
    """Read, hold, decide, deliver, commit, until told to stop.

    Stopping begins at the input: the consumer ends and closes its channel. The sweeper ends when it has taken
    the rest of that channel, and so on down to the committer, whose end is the last commit. Open traces are not decided
    during a stop: their records are not committed, and the next owner of the partition reads them again.
    """
    parts = wire(settings, outside)
    crew, meter, commit_secs = outside.crew, outside.meter, settings.kafka.commit_interval_secs
    assignments, buffer, keying, times = parts.assignments, parts.buffer, parts.keying, parts.times
    async with outside.open_member(assignments, parts.rulesets) as member, trio.open_nursery() as around:
        drain = trio.CancelScope()
        crew.start(around, "stopper", _stopper, stop, drain, times.drain_secs, outside.health)
        crew.start(around, "trainer", trainer.run, buffer.packer, meter)
        if outside.read_group is not None:
            crew.start(around, "scaler", scaler.run, outside.read_group, assignments, meter, stop, commit_secs)
        crew.start(around, "keeper", keeper.run, outside.retention, assignments, meter, stop)
        with drain:
            async with trio.open_nursery() as tasks:
                polled_in, polled_out = _channel("polled", POLLED_BATCHES, outside, Batch)
                closed_in, closed_out = _channel("closed", CLOSED_BATCHES, outside, list[Trace])
                lacking_in, lacking_out = trio.open_memory_channel[list[Trace]](math.inf)  # closed_bytes bounds it
                kept_in, kept_out = _channel("kept", KEPT_BATCHES, outside, list[Trace])
                prepared_in, prepared_out = _channel("prepared", PREPARED_BATCHES, outside, list[Trace])
                settled_in, settled_out = _channel("settled", SETTLED_BATCHES, outside, list[Trace])
                crew.work(
                    tasks, "consumer", consumer.run, member, assignments, outside.dead_letters, polled_in, stop, meter,
                    keying=keying, pausing=parts.pausing,
                )  # fmt: skip
                crew.work(
                    tasks, "sweeper", sweeper.run, polled_out, closed_in, buffer, meter,
                    keying=keying, observers=outside.observers,
                )  # fmt: skip
                with closed_out, kept_in, settled_in, lacking_in:  # each task has a clone; these originals end here
                    for number in range(settings.app.evaluation_workers):
                        deciding = parts.deciding(kept=kept_in.clone(), settled=settled_in.clone())
                        lacking = None if parts.parker is None else lacking_in.clone()
                        crew.work(tasks, f"evaluator {number}", evaluator.run, closed_out.clone(), deciding, lacking)
                    if parts.parker is not None:
                        deciding = parts.deciding(kept=kept_in.clone(), settled=settled_in.clone())
                        parking = parts.parker.parking
                        crew.work(tasks, "unparker", unparker.run, lacking_out, parking, deciding, assignments)
                        crew.start(around, "parker", parts.parker.run)
                    crew.work(tasks, "preparer", preparer.run, kept_out, prepared_in, buffer, parts.preparation, meter)
                    crew.work(
                        tasks, "exporter", exporter.run, prepared_out, settled_in.clone(), parts.lanes, meter, parts.memories
                    )  # fmt: skip
                commit_and_settle = partial(
                    committer.run, settled_out, member, assignments, buffer, meter, stop,
                    interval_secs=commit_secs, last_commit_secs=times.last_commit_secs,
                    hand_over=parts.parker.hand_over if parts.parker and times.hand_over_secs else None,
                    hand_over_secs=times.hand_over_secs, upstream_ended=crew.ended,
                )  # fmt: skip
                tasks.start_soon(commit_and_settle, name="committer")  # it sees its own death
        sweeper.show(buffer, meter)  # counts of the tasks after the sweeper, which ended after it
        if drain.cancelled_caught:
            log.warning(
                "stopped before everything in hand was delivered; Kafka still has it",
                open_traces=buffer.open_traces, held_bytes=buffer.held_bytes,
            )  # fmt: skip
        around.cancel_scope.cancel()


async def _stopper(stop: trio.Event, drain: trio.CancelScope, secs: float, health: Health) -> None:
    """The deadline of a stop begins when the stop is asked for."""
    await stop.wait()
    health.stopping = True
    drain.deadline = trio.current_time() + secs


def _channel(
    name: str, bound: int, outside: Outside, _kind: type[T]
) -> tuple[trio.MemorySendChannel[T], trio.MemoryReceiveChannel[T]]:
    """A bounded channel with its gauge."""
    send, receive = trio.open_memory_channel[T](bound)
    outside.meter.set(measures.CHANNEL_LIMIT, bound, name)
    outside.meter.watch(measures.CHANNEL_FILL, lambda: receive.statistics().current_buffer_used, name)
    outside.health.details[f"channel_{name}"] = lambda: f"{receive.statistics().current_buffer_used} of {bound}"
    return send, receive
