"""Rows of decisions as records of a Kafka topic: one record each, its key is the trace id, its value is JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio
from confluent_kafka import KafkaException, Producer

from tss.core.decision_rows import LineWriter, Row
from tss.core.delivery import Accepted, Again, Batching, Outcome
from tss.core.errors import WrongSetting
from tss.core.names import Names
from tss.edges.kafka_client.client_log import logger
from tss.edges.kafka_client.config import connection_config, without_secrets
from tss.edges.kafka_client.errors import HEADLINE, cause_of, said
from tss.settings import DecisionsExporter, Kafka

MESSAGE_TIMEOUT_MS = 10_000  # a record that no broker has taken by then is given up; its batch is written again
CLOSE_SECS = 1.0


class DecisionRecords:
    """Writes to the topic. At least once: a batch of which a record failed is written again."""

    def __init__(
        self,
        settings: DecisionsExporter,
        producer: Producer,
        errors: list[str],
        writer: LineWriter,
        limiter: trio.CapacityLimiter,
    ) -> None:
        """``errors`` gets the reason of each record that is not delivered. Records that are delivered are not reported."""
        self.name = settings.name
        self.batching = Batching(settings.batch_size, settings.linger_secs, 1)
        self._topic = settings.topic
        self._producer = producer
        self._writer = writer
        self._limiter = limiter
        self._errors = errors

    async def send(self, rows: Sequence[Row]) -> Outcome:
        """All rows are in the topic when this returns Accepted."""
        work = partial(self._send, rows)
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    def _send(self, rows: Sequence[Row]) -> Outcome:
        self._errors.clear()
        lines = self._writer.lines(rows)
        messages = [{"value": line, "key": row.trace_id.hex()} for line, row in zip(lines, rows, strict=True)]
        try:
            queued = self._producer.produce_batch(self._topic, messages)
            left = self._producer.flush(MESSAGE_TIMEOUT_MS / 1000 + 5)
        except (KafkaException, BufferError, SystemError) as error:
            return Again("kafka", str(error)[:400])
        if left:
            self._producer.purge()
        if left or self._errors or queued < len(messages):
            return Again("kafka", self._errors[0] if self._errors else "the brokers did not take all records in time")
        return Accepted()


@asynccontextmanager
async def open_records(
    settings: DecisionsExporter, kafka: Kafka, client_id: str, names: Names
) -> AsyncIterator[DecisionRecords]:
    """No broker is asked yet."""
    config = {
        **connection_config(kafka, client_id),
        "compression.type": "zstd",
        "delivery.report.only.error": True,
        "message.timeout.ms": MESSAGE_TIMEOUT_MS,
        "linger.ms": 5,
        "queue.buffering.max.messages": max(100_000, 2 * settings.batch_size),
        "logger": logger(),
        **settings.properties,
    }
    errors: list[str] = []
    try:
        producer = Producer({**config, "on_delivery": lambda error, _: errors.append(said(error))})
    except KafkaException as error:
        reason = without_secrets(said(cause_of(error)), config)
        raise WrongSetting(f"{HEADLINE}: {reason}, check the exporter's properties") from None
    try:
        yield DecisionRecords(settings, producer, errors, LineWriter(names), trio.CapacityLimiter(1))
    finally:
        with trio.move_on_after(CLOSE_SECS, shield=True):
            await trio.to_thread.run_sync(partial(producer.flush, CLOSE_SECS), abandon_on_cancel=True)
