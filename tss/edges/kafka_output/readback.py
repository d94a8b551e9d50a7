"""Reads the output topic back, to find out which traces of the assigned partitions it has.

The owner before may have died in the middle of a transaction. Once the group's offsets are stable, that transaction has
ended, or it can only be aborted, since the group has moved on. So the topic is read up to its end as it is now. An open
transaction holds the last stable offset back: the reader waits until that offset has reached this end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from tss.core.errors import CannotConnect
from tss.core.output_traces import OutputTrace
from tss.core.startposition import StartPosition
from tss.edges.kafka_client.asking import until_answered, without_errors
from tss.edges.kafka_client.errors import HEADLINE, TOPIC_MISSING, is_fatal, said
from tss.edges.kafka_client.headers import headers_of
from tss.edges.kafka_output.output_records import ConsumedTopic, output_traces_of

log = structlog.get_logger()

# Reading begins earlier by this much. It only matters where the topic has LogAppendTime: then the brokers' clocks, and
# not ours, made the timestamps.
MARGIN_MS = 30_000
ASK_SECS = 2.0  # the timeout of one request; between two requests a stop is noticed
# Together with the lookup of the offsets (150 s) less than the group waits for a member (max.poll.interval.ms, 300 s).
IN_ALL_SECS = 120.0
BATCH_RECORDS = 1000
BATCH_SECS = 0.1
TELL_SECS = 10.0  # between two log lines about the remaining
FAILURE = "the output topic could not be read back"
MISSING_SECS = 5.0  # a broker that is starting may report an existing topic as missing, but not for this long

Known = dict[int, dict[bytes, OutputTrace]]
"""By input partition, by trace id."""
Parse = Callable[[bytes | None, Mapping[str, bytes | None], ConsumedTopic], tuple[bytes, dict[int, OutputTrace]] | None]
"""A record's key and headers to its trace id and, by input partition, the part of the trace; None for other records."""


@attrs.define
class _Remaining:
    """How far the topic has been read."""

    positions: dict[int, int]  # by partition of the output topic
    ends: dict[int, int]
    records: int = 0

    def __str__(self) -> str:
        left = {id: end - self.positions[id] for id, end in self.ends.items() if self.positions[id] < end}
        return f"{self.records} records were read, up to {sum(left.values())} are left in partitions {sorted(left)}"

    def is_done(self) -> bool:
        return all(self.positions[id] >= end for id, end in self.ends.items())


@attrs.define
class _Wanted:
    """The traces that are looked for, and those found so far."""

    consumed: ConsumedTopic
    offsets: Mapping[int, int]  # by input partition the first that matters
    known: Known

    def take(self, trace_id: bytes, by_partition: Mapping[int, OutputTrace]) -> None:
        for partition, found in by_partition.items():
            if partition in self.offsets and found.last >= self.offsets[partition]:
                traces = self.known.setdefault(partition, {})
                traces[trace_id] = traces[trace_id].and_also(found) if trace_id in traces else found


@attrs.define
class Readback:
    """Reads one topic that is written in transactions. Each call makes its own clients, and closes them."""

    config: Mapping[str, object]  # of a consumer
    topic: str
    consumed: ConsumedTopic
    parse: Parse = output_traces_of
    records: int = 0  # read in the last call
    secs: float = 0.0  # that the last call took

    def with_output_traces(
        self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]
    ) -> dict[int, StartPosition]:
        """The same starts, with the traces that the topic has from there on.

        The topic is not read where no time is committed beside the offsets. Somebody set such an offset by hand, to
        have everything from there on written again.

        Raises CannotConnect when the topic cannot be read, and whatever `breathe` raises.
        """
        since = [start.since_ms for start in starts.values() if start.since_ms is not None]
        if not since:
            return dict(starts)
        wanted = {id: start.offset for id, start in starts.items()}
        topic_id = next(iter(starts.values())).topic  # the same for all, which are looked up together
        known = self.read(min(since) - MARGIN_MS, wanted, breathe, attrs.evolve(self.consumed, topic_id=topic_id))
        log.info(
            "read back what the output topic has",
            topic=self.topic,
            records=self.records,
            secs=round(self.secs, 3),
            traces=sum(map(len, known.values())),
        )
        return {id: attrs.evolve(start, output_traces=known.get(id, {})) for id, start in starts.items()}

    def read(
        self,
        since_ms: int,
        wanted: Mapping[int, int],
        breathe: Callable[[], None],
        consumed: ConsumedTopic | None = None,
    ) -> Known:
        """The traces in records that are not older than ``since_ms``, as far as they cover ``wanted``: input partitions,
        from these offsets on. With a topic id in ``consumed``, traces of another topic of that name are left out.

        Raises CannotConnect, and whatever `breathe` raises.
        """
        began = time.monotonic()
        deadline = began + IN_ALL_SECS
        remaining = self._bounds(max(0, since_ms), deadline, breathe)
        known: Known = {}
        if not remaining.is_done():
            with _client(self.config, {"isolation.level": "read_committed", "enable.partition.eof": True}) as client:
                client.assign([TopicPartition(self.topic, id, at) for id, at in remaining.positions.items()])
                self._read(client, remaining, _Wanted(consumed or self.consumed, wanted, known), deadline, breathe)
        self.records, self.secs = remaining.records, time.monotonic() - began
        return known

    def under_way(self, ids: Sequence[int]) -> list[int]:
        """Partitions in which any producer's transaction is open. Raises KafkaException."""
        with _client(self.config, {"isolation.level": "read_committed"}) as client:
            stable = self._ask(client, ids, OFFSET_END)
        with _client(self.config, {"isolation.level": "read_uncommitted"}) as client:
            ends = self._ask(client, ids, OFFSET_END)
        return [id for id in ids if stable[id] < ends[id]]

    def _read(
        self,
        client: Consumer,
        remaining: _Remaining,
        wanted: _Wanted,
        deadline: float,
        breathe: Callable[[], None],
    ) -> None:
        tell = time.monotonic() + TELL_SECS
        while not remaining.is_done():
            for message in client.consume(BATCH_RECORDS, BATCH_SECS):
                self._take(message, remaining, wanted)
            now = time.monotonic()
            if now > deadline:
                raise CannotConnect(
                    f"{HEADLINE}: {self.topic} could not be read back in {IN_ALL_SECS:g} s: {remaining}"
                )
            if now > tell:
                log.info("still reading back the output topic", topic=self.topic, records=remaining.records)
                tell = now + TELL_SECS
            breathe()

    def _take(self, message: Message, remaining: _Remaining, wanted: _Wanted) -> None:
        error = message.error()
        id: int = message.partition()  # type: ignore[assignment]  # it and the offset are None only in errors without a partition
        offset: int = message.offset()  # type: ignore[assignment]
        if error is not None:
            if error.name() == "_PARTITION_EOF":
                remaining.positions[id] = max(remaining.positions[id], offset)
            elif is_fatal(error):
                raise CannotConnect(f"{HEADLINE}: {self.topic}: {said(error)}, check the ACLs of the topic")
            return
        remaining.positions[id] = max(remaining.positions[id], offset + 1)
        remaining.records += 1
        found = self.parse(message.key(), dict(headers_of(message)), wanted.consumed)
        if found is not None:
            wanted.take(*found)

    def _bounds(self, since_ms: int, deadline: float, breathe: Callable[[], None]) -> _Remaining:
        """From the first record of that time to the end of each partition, open transactions included."""
        # Uncommitted: for a committed read, the partition ends where a transaction is open.
        with _client(self.config, {"isolation.level": "read_uncommitted"}) as client:
            missing = time.monotonic() + MISSING_SECS
            ids = until_answered(lambda: self._partitions(client, missing), deadline, breathe, FAILURE)
            begin = until_answered(lambda: self._ask(client, ids, since_ms), deadline, breathe, FAILURE)
            ends = until_answered(lambda: self._ask(client, ids, OFFSET_END), deadline, breathe, FAILURE)
        # -1: the partition has no record of that time or later.
        positions = {id: ends[id] if begin[id] < 0 else begin[id] for id in ids}
        return _Remaining(positions, ends)

    def _partitions(self, client: Consumer, missing: float) -> list[int]:
        topic = client.list_topics(self.topic, timeout=ASK_SECS).topics[self.topic]
        if topic.error is None:
            return [*topic.partitions]
        if topic.error.name() in TOPIC_MISSING and time.monotonic() > missing:
            return []  # it has no traces; sending to it reports that it is missing
        raise KafkaException(topic.error)

    def _ask(self, client: Consumer, ids: Sequence[int], what: int) -> dict[int, int]:
        if not ids:
            return {}
        answered = client.offsets_for_times([TopicPartition(self.topic, id, what) for id in ids], timeout=ASK_SECS)
        return {place.partition: place.offset for place in without_errors(answered)}


@contextmanager
def _client(config: Mapping[str, object], more: Mapping[str, object]) -> Iterator[Consumer]:
    client = Consumer({**config, **more})
    try:
        yield client
    finally:
        client.close()
