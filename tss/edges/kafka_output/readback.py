"""Reads the output topic back: what it has of the partitions that have just become ours.

Whoever owned them before may have died in the middle of a transaction. Once the group's offsets are stable such a
transaction is over, or can only end in being aborted, since the group has moved on; so what counts is all that is
committed below the end of the log as it is now, and until the last stable offset has got there it is not known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import attrs
import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from tss.core.errors import CannotConnect
from tss.core.output_traces import OutputTrace
from tss.core.startposition import StartPosition
from tss.edges.kafka_client.errors import HEADLINE, TOPIC_MISSING, cause_of, is_fatal, said
from tss.edges.kafka_client.headers import headers_of
from tss.edges.kafka_output.output_records import ConsumedTopic, delivered_of

log = structlog.get_logger()

# With the reader's own timestamps the first record is found exactly. Only where the topic has LogAppendTime is this
# between the brokers' clocks and ours.
MARGIN_MS = 30_000
ASK_SECS = 2.0  # each try, so that a stop is heard soon
PAUSE_SECS = 0.2
# Together with the look-up of the offsets less than what the group waits for a member (max.poll.interval.ms, 300 s).
IN_ALL_SECS = 120.0
BATCH_RECORDS = 1000
BATCH_SECS = 0.1
TELL_SECS = 10.0
MISSING_SECS = 5.0  # a topic that is said not to exist for so long does not; a broker that is starting may say so too

Known = dict[int, dict[bytes, OutputTrace]]
Told = Callable[[bytes | None, Mapping[str, bytes | None], ConsumedTopic], tuple[bytes, dict[int, OutputTrace]] | None]
T = TypeVar("T")


@attrs.define
class _Progress:
    """How far it has come."""

    positions: dict[int, int]
    ends: dict[int, int]
    records: int = 0

    def told(self) -> str:
        """What is not read yet, for people."""
        left = {id: end - self.positions[id] for id, end in self.ends.items() if self.positions[id] < end}
        return f"{self.records} records were read; of partitions {sorted(left)} up to {sum(left.values())} are left"

    def is_done(self) -> bool:
        return all(self.positions[id] >= end for id, end in self.ends.items())


@attrs.define
class _Wanted:
    """What is looked for, and what of it has been found."""

    consumed: ConsumedTopic
    offsets: Mapping[int, int]  # by partition the first that matters
    known: Known

    def take(self, trace_id: bytes, by_partition: Mapping[int, OutputTrace]) -> None:
        for partition, told in by_partition.items():
            if partition in self.offsets and told.last >= self.offsets[partition]:
                of_it = self.known.setdefault(partition, {})
                of_it[trace_id] = of_it[trace_id].and_also(told) if trace_id in of_it else told


@attrs.define
class Readback:
    """Reads one topic, by clients of its own that are gone afterwards. ``config`` is that of a consumer."""

    config: Mapping[str, object]
    topic: str
    consumed: ConsumedTopic
    told: Told = delivered_of  # what a record says of itself
    records: int = 0  # read in the last call
    secs: float = 0.0

    def with_delivered(
        self, starts: Mapping[int, StartPosition], breathe: Callable[[], None]
    ) -> dict[int, StartPosition]:
        """The same starts, with what the topic has from them on. Nothing is asked where nothing was ever noted: an
        offset that somebody set by hand is one from which all is to be produced again.

        Raises CannotConnect when that cannot be found out, and what `breathe` raises.
        """
        since = [start.since_ms for start in starts.values() if start.since_ms is not None]
        if not since:
            return dict(starts)
        wanted = {id: start.offset for id, start in starts.items()}
        topic_id = next(iter(starts.values())).topic  # the same for all: they are looked up together
        known = self.read(min(since) - MARGIN_MS, wanted, breathe, attrs.evolve(self.consumed, topic_id=topic_id))
        log.info(
            "read back what the output topic has",
            topic=self.topic,
            records=self.records,
            secs=round(self.secs, 3),
            traces=sum(map(len, known.values())),
        )
        return {id: attrs.evolve(start, delivered=known.get(id, {})) for id, start in starts.items()}

    def read(
        self,
        since_ms: int,
        wanted: Mapping[int, int],
        breathe: Callable[[], None],
        consumed: ConsumedTopic | None = None,
    ) -> Known:
        """What the topic has, written since then, of records of these partitions from these offsets on. With the id of
        the topic in ``consumed`` only of that one."""
        began = time.monotonic()
        deadline = began + IN_ALL_SECS
        progress = self._bounds(max(0, since_ms), deadline, breathe)
        known: Known = {}
        if not progress.is_done():
            with _client(self.config, {"isolation.level": "read_committed", "enable.partition.eof": True}) as client:
                client.assign([TopicPartition(self.topic, id, at) for id, at in progress.positions.items()])
                self._read(client, progress, _Wanted(consumed or self.consumed, wanted, known), deadline, breathe)
        self.records, self.secs = progress.records, time.monotonic() - began
        return known

    def under_way(self, ids: Sequence[int]) -> list[int]:
        """Those of these partitions in which a transaction is, of whomever. Raises KafkaException."""
        with _client(self.config, {"isolation.level": "read_committed"}) as client:
            stable = self._ask(client, ids, OFFSET_END)
        with _client(self.config, {"isolation.level": "read_uncommitted"}) as client:
            ends = self._ask(client, ids, OFFSET_END)
        return [id for id in ids if stable[id] < ends[id]]

    def _read(
        self,
        client: Consumer,
        progress: _Progress,
        wanted: _Wanted,
        deadline: float,
        breathe: Callable[[], None],
    ) -> None:
        tell = time.monotonic() + TELL_SECS
        while not progress.is_done():
            for message in client.consume(BATCH_RECORDS, BATCH_SECS):
                self._take(message, progress, wanted)
            now = time.monotonic()
            if now > deadline:
                raise CannotConnect(
                    f"{HEADLINE}: {self.topic} could not be read back in {IN_ALL_SECS:g} s: {progress.told()}"
                )
            if now > tell:
                log.info("still progress back the output topic", topic=self.topic, records=progress.records)
                tell = now + TELL_SECS
            breathe()

    def _take(self, message: Message, progress: _Progress, wanted: _Wanted) -> None:
        error = message.error()
        id: int = message.partition()  # type: ignore[assignment]  # None only for errors of no partition, as is the offset
        offset: int = message.offset()  # type: ignore[assignment]
        if error is not None:
            if error.name() == "_PARTITION_EOF":
                progress.positions[id] = max(progress.positions[id], offset)
            elif is_fatal(error):
                raise CannotConnect(f"{HEADLINE}: {self.topic}: {said(error)}, check the ACLs of the topic")
            return
        progress.positions[id] = max(progress.positions[id], offset + 1)
        progress.records += 1
        found = self.told(message.key(), dict(headers_of(message)), wanted.consumed)
        if found is not None:
            wanted.take(*found)

    def _bounds(self, since_ms: int, deadline: float, breathe: Callable[[], None]) -> _Progress:
        """From the first record of that time on to the end of the log, transactions under way included."""
        # Uncommitted: for a reader of what is committed the log ends where a transaction is under way.
        with _client(self.config, {"isolation.level": "read_uncommitted"}) as client:
            missing = time.monotonic() + MISSING_SECS
            ids = _patiently(lambda: self._partitions(client, missing), deadline, breathe)
            begin = _patiently(lambda: self._ask(client, ids, since_ms), deadline, breathe)
            ends = _patiently(lambda: self._ask(client, ids, OFFSET_END), deadline, breathe)
        # -1: nothing so late.
        positions = {id: ends[id] if begin[id] < 0 else begin[id] for id in ids}
        return _Progress(positions, ends)

    def _partitions(self, client: Consumer, missing: float) -> list[int]:
        topic = client.list_topics(self.topic, timeout=ASK_SECS).topics[self.topic]
        if topic.error is None:
            return [*topic.partitions]
        if topic.error.name() in TOPIC_MISSING and time.monotonic() > missing:
            return []  # nothing is in it; sending will tell of it
        raise KafkaException(topic.error)

    def _ask(self, client: Consumer, ids: Sequence[int], what: int) -> dict[int, int]:
        if not ids:
            return {}
        answered = client.offsets_for_times([TopicPartition(self.topic, id, what) for id in ids], timeout=ASK_SECS)
        for place in answered:
            if place.error:
                raise KafkaException(place.error)
        return {place.partition: place.offset for place in answered}


@contextmanager
def _client(config: Mapping[str, object], more: Mapping[str, object]) -> Iterator[Consumer]:
    client = Consumer({**config, **more})
    try:
        yield client
    finally:
        client.close()


def _patiently(ask: Callable[[], T], deadline: float, breathe: Callable[[], None]) -> T:
    """Raises CannotConnect when the brokers refuse, or do not tell in time."""
    while True:
        try:
            return ask()
        except KafkaException as error:
            cause = cause_of(error)
            if is_fatal(cause) or time.monotonic() > deadline:
                raise CannotConnect(f"{HEADLINE}: the output topic could not be read back: {said(cause)}") from None
        time.sleep(PAUSE_SECS)
        breathe()
