"""The first stage, for input that is not keyed: `kafka.rekey` (ARCHITECTURE.md)."""

from __future__ import annotations

import structlog
import trio

from tss.core.alignment import Alignment
from tss.daemon.outside import Outside
from tss.daemon.stopping import StopTimes, limit
from tss.edges.kafka.source import KafkaSource
from tss.edges.kafka_output.rekey_topic import open_rekey, source_settings
from tss.settings import Settings
from tss.state.inputs import Inputs
from tss.tasks import keeper, rekeyer

log = structlog.get_logger()


async def rekey(
    settings: Settings,
    outside: Outside,
    stop: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Split the input by trace and write it to the keyed topic, until told to stop.

    It is started once the keyed topic is there, or once the stop was asked for. It ends with the transaction that is under
    way, or when its share of the stop is over.
    """
    times = StopTimes.of(settings.app.shutdown_timeout_secs, settings.app.graceful_shutdown)
    kafka, name, meter, health, crew = (
        settings.kafka,
        settings.app.instance_id,
        outside.meter,
        outside.health,
        outside.crew,
    )
    inputs = Inputs(kafka.input_topic, Alignment(round(kafka.rekey.max_ahead_secs * 1000)), meter)
    async with open_rekey(kafka, name) as topic, trio.open_nursery() as around:
        ending = trio.CancelScope()
        crew.start(around, "stopper of rekey", limit, ending, stop, min(times.leave_secs, times.drain_secs))
        crew.start(around, "keeper of the input", keeper.run, outside.source_retention, inputs, meter, stop)
        with ending:
            await rekeyer.make(topic, stop, health)
            task_status.started()
            source = KafkaSource.open(
                source_settings(kafka), name, inputs, meter, health, outbox=topic, close_secs=times.leave_secs,
                component="kafka input", keeping=True,
            )  # fmt: skip
            async with source as member:
                await rekeyer.run(
                    member, inputs, topic,
                    dead_letters=outside.dead_letters, stop=stop, meter=meter, health=health, chance=outside.chance,
                )  # fmt: skip
        if ending.cancelled_caught:
            log.warning(
                "stopped in a transaction of the rekey stage; it is aborted, and its records are read again",
                topic=kafka.input_topic,
            )
        around.cancel_scope.cancel()
