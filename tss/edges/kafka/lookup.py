"""The start positions of assigned partitions, looked up at the brokers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tss.core.logfields import partition_fields
from tss.core.startposition import StartPosition
from tss.edges.kafka.connection import BrokerConnection
from tss.edges.kafka.identity import TopicIdentity
from tss.edges.kafka.starts import start_of
from tss.edges.kafka_client.asking import until_answered, without_errors
from tss.edges.kafka_client.errors import cause_of
from tss.edges.kafka_client.offset_metadata import metadata_of, partitions_at_birth, topic_of

log = structlog.get_logger()

LOOKUP_SECS = 2.0  # the timeout of one request; between two requests a stop is noticed
LOOKUP_IN_ALL_SECS = 150.0  # half of the time that the group waits for a member (max.poll.interval.ms, 300 s)
FAILURE = "the offsets to begin at could not be looked up"


class OffsetLookup:
    """Asks until the brokers answer: a partition that begins at another offset could lose records.

    Raises CannotConnect when they refuse or do not answer in time, and whatever ``breathe`` raises between two requests.
    """

    def __init__(
        self,
        client: Consumer,
        topic: str,
        connection: BrokerConnection,
        breathe: Callable[[], None],
        admin_client: Callable[[], AdminClient],
        identity: TopicIdentity,
    ) -> None:
        self._client = client
        self._topic = topic
        self._connection = connection
        self._breathe = breathe
        self._admin_client = admin_client
        self._identity = identity
        self._warned_of_no_id = False
        self.partitions_at_birth: int | None = None  # found by the last `starts`: see `_new`

    def starts(self, ids: Sequence[int], reset: str) -> dict[int, StartPosition]:
        """The start position of each partition. ``reset`` is kafka.autoOffsetReset."""
        committed = {place.partition: place for place in self._patiently(lambda: self._committed(ids))}
        first = self.first(ids)
        before, topic = self._identity.known, self._identity.ask() or self._identity.known
        self._identity.known = topic
        is_another = bool(before) and before != topic  # than the one that this process has read
        missing = [id for id in ids if committed[id].offset < 0]
        self.partitions_at_birth = None
        new: set[int] = set()
        if is_another:
            new.update(missing)
        elif missing and reset == "latest":
            new = self._new(missing, topic)
        end = self._bounds([id for id in missing if id not in new], OFFSET_END)
        # For other partitions the end only limits the questions to Redis about their records, so one try is enough.
        end |= self.ends_if_told([id for id in ids if id not in end])
        starts = {}
        for id in ids:
            offset, metadata = committed[id].offset, metadata_of(committed[id])
            at = offset if offset >= 0 else None
            noted = topic_of(metadata)
            if at is not None and (noted != topic if noted and topic else is_another):
                starts[id] = attrs.evolve(
                    start_of(None, None, first[id], end.get(id), "earliest"),
                    anew=True,
                    why="topic deleted and made again",
                )
            else:
                chosen = "earliest" if id in new else reset
                starts[id] = attrs.evolve(start_of(at, metadata, first[id], end.get(id), chosen), anew=is_another)
                if at is not None and at < first[id]:
                    self._connection.lose(id, at, first[id])
        self._log_anew(starts, topic)
        if not topic and not self._warned_of_no_id:
            self._warned_of_no_id = True
            log.warning(
                "the brokers do not tell the id of the topic, so a topic that is deleted and made again cannot be recognised; "
                "allow Describe on the topic (ids need Kafka 2.8)",
                topic=self._topic,
            )
        return {id: attrs.evolve(each, topic=topic) for id, each in starts.items()}

    def _log_anew(self, starts: Mapping[int, StartPosition], topic: str) -> None:
        anew = {id: each.offset for id, each in starts.items() if each.anew}
        if anew:
            log.warning(
                "the topic was deleted and made again: the old offsets are void, and reading begins with the unread records "
                "of the new topic",
                topic=self._topic,
                topic_id=topic,
                **partition_fields(anew, offsets=anew),
            )

    def _new(self, missing: Sequence[int], topic: str) -> set[int]:
        """Which of these were added while the group existed. They are read from their start, whatever the settings say:
        else records that were written before the partition was noticed would be lost (law 1).

        In a group without any offset nothing is new. Then each member commits the number of partitions beside its
        offsets. Otherwise members that join a moment later would take their own partitions for new ones.
        """
        count = self._count()
        standing = [place for place in self._patiently(lambda: self._committed(range(count))) if place.offset >= 0]
        if not standing:
            self.partitions_at_birth = count
            return set()
        topics = {topic_of(metadata_of(place)) for place in standing}
        if topic and topics - {"", topic}:
            return set(missing)  # the group has offsets of an older topic, so it existed before this topic
        noted = [partitions_at_birth(metadata_of(place)) for place in standing]
        old = min([known for known in noted if known is not None], default=0)
        new = {id for id in missing if id >= old}
        if new:
            log.info("partitions were added to the topic: they are read from their start", **partition_fields(new))
        return new

    def _count(self) -> int:
        """The number of partitions of the topic.

        It is asked through another client. This runs inside a callback of the consumer, and there the consumer's own
        `list_topics` ends the process (seen with confluent-kafka 2.16: "CallState_get: Assertion `cs != NULL' failed").
        """
        found: dict[int, object] = {}
        client = self._admin_client()

        def ask() -> list[TopicPartition]:
            topic = client.list_topics(self._topic, timeout=LOOKUP_SECS).topics[self._topic]
            if topic.error:
                raise KafkaException(topic.error)
            found.update(topic.partitions)
            return []

        self._patiently(ask)
        return len(found)

    def first(self, ids: Sequence[int]) -> dict[int, int]:
        """The first offset of each partition."""
        return self._bounds(ids, OFFSET_BEGINNING)

    def ends_if_told(self, ids: Sequence[int]) -> dict[int, int]:
        """The end of each partition, as far as the brokers tell it at the first try. Raises nothing."""
        if not ids:
            return {}
        asked = [TopicPartition(self._topic, id, OFFSET_END) for id in ids]
        try:
            answered = self._client.offsets_for_times(asked, timeout=LOOKUP_SECS)
        except KafkaException as error:
            self._connection.note(cause_of(error))
            return {}
        return {place.partition: place.offset for place in answered if not place.error}

    def _committed(self, ids: Iterable[int]) -> list[TopicPartition]:
        return list(self._client.committed([TopicPartition(self._topic, id) for id in ids], timeout=LOOKUP_SECS))

    def _bounds(self, ids: Sequence[int], which: int) -> dict[int, int]:
        """The offset at ``which`` of each partition, with one request for each broker. (get_watermark_offsets would ask
        partition by partition, and each answer would queue behind a waiting fetch.)"""
        if not ids:
            return {}
        asked = [TopicPartition(self._topic, id, which) for id in ids]
        answered = self._patiently(lambda: self._client.offsets_for_times(asked, timeout=LOOKUP_SECS))
        return {place.partition: place.offset for place in answered}

    def _patiently(self, ask: Callable[[], Sequence[TopicPartition]]) -> Sequence[TopicPartition]:
        deadline = time.monotonic() + LOOKUP_IN_ALL_SECS
        return until_answered(lambda: without_errors(ask()), deadline, self._breathe, FAILURE, self._note)

    def _note(self, error: KafkaError) -> None:
        self._connection.note(error)
        if self._connection.refused:
            raise self._connection.refused
