"""The ends of partitions, and until when each is known: from librdkafka's statistics, or asked while reading pauses.

Source: librdkafka STATISTICS.md. The behaviour of the fields was measured with Apache Kafka 4.3 and Tansu 0.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import attrs
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import ListOffsetsResultInfo, OffsetSpec

ASK_SECS = 2.0


@attrs.frozen
class _End:
    """One partition in one statistics snapshot, after a fresh fetch."""

    high: int  # the end of the partition
    stable: int  # the last stable offset: open transactions begin here
    fetched: int  # the offset to be fetched next
    queued: int  # messages fetched, but not handed over yet
    known_ms: int  # the wall clock until which this is known


class PartitionEnds:
    """The ends of the assigned partitions.

    A partition is at its end when none of its messages is queued, and the next offset to fetch is the high watermark.
    (Not the stable offset: the records of an open transaction are older than the wall clock, and have yet to be read.)
    It is known until the time of the snapshot, less the time since the broker's last answer. Answers on a connection
    come in the order of the requests. A waiting fetch is answered as soon as there is a record. So a broker that
    answered had no record until then.

    After a pause, a revocation or a change of the leader, watermarks and offsets are old until the next fetch is
    answered. So a partition counts only when its broker has been sent two fetches since the first snapshot that showed
    it active. Only one fetch at a time is under way, so the first of the two has been answered.
    """

    def __init__(self) -> None:
        self._fetches: dict[
            int, tuple[int, int]
        ] = {}  # by partition: its broker, and the number of fetches sent to it by then
        self._ends: dict[int, _End] = {}

    def __repr__(self) -> str:
        return f"<PartitionEnds {self._ends}>"

    def begin(self, ids: Iterable[int]) -> None:
        """Forget these partitions: they were assigned, revoked, moved, paused or resumed."""
        for id in ids:
            self._fetches.pop(id, None)
            self._ends.pop(id, None)

    def clear(self) -> None:
        """Forget the snapshot after its use, but not the count of fetches."""
        self._ends.clear()

    def see(self, ids: Iterable[int], topic: Mapping[str, Any], brokers: Mapping[str, Any], emitted_ms: int) -> None:
        """Take in a snapshot: the statistics' ``partitions`` of the topic, and ``brokers``; emitted at this wall ms."""
        by_node = {broker["nodeid"]: broker for broker in brokers.values() if broker["nodeid"] >= 0}
        self._ends.clear()
        for id in ids:
            partition = topic.get(str(id))
            broker = by_node.get(partition["broker"]) if partition else None
            if not partition or not broker or broker["state"] != "UP" or partition["fetch_state"] != "active":
                self._fetches.pop(id, None)
            elif self._is_fresh(id, broker) and partition["hi_offset"] >= 0 and broker["rxidle"] >= 0:
                self._ends[id] = _End(
                    high=partition["hi_offset"],
                    stable=partition["ls_offset"],
                    fetched=partition["next_offset"],
                    queued=partition["fetchq_cnt"],
                    known_ms=emitted_ms - broker["rxidle"] // 1000,
                )

    def _is_fresh(self, id: int, broker: Mapping[str, Any]) -> bool:
        node, fetches = broker["nodeid"], broker["req"].get("Fetch", 0)
        before = self._fetches.setdefault(id, (node, fetches))
        if before[0] != node or fetches < before[1]:
            self._fetches[id] = (node, fetches)
            return False
        return bool(fetches >= before[1] + 2)

    def reached(self, positions: Mapping[int, int]) -> dict[int, int]:
        """The partitions at their end, each with the wall clock in ms until which this is known. ``positions``: the offset
        after the last record that was handed over."""
        return {
            id: end.known_ms
            for id, end in self._ends.items()
            if not end.queued and max(end.fetched, positions[id]) >= end.high
        }

    def read_to(self, ids: Iterable[int]) -> dict[int, int]:
        """The end offsets of partitions at their end. It is above the position where a transaction's marker, or an aborted
        record, comes last."""
        return {id: self._ends[id].high for id in ids}

    def lags(self, positions: Mapping[int, int]) -> dict[int, int]:
        """Records between the position and the last stable offset, by partition."""
        lags = {}
        for id, end in self._ends.items():
            position = positions[id] if end.queued else max(end.fetched, positions[id])
            lags[id] = max(0, end.stable - position)
        return lags


class AskedEnds:
    """The ends of partitions while reading pauses. They are asked without waiting for the answer, since the thread that
    asks also commits. Raises nothing."""

    def __init__(self, topic: str, admin_client: Callable[[], AdminClient]) -> None:
        self._topic = topic
        self._admin_client = admin_client
        self._client: AdminClient | None = None
        self._asked: dict[TopicPartition, Future[ListOffsetsResultInfo]] = {}

    def __repr__(self) -> str:
        return f"<AskedEnds of {self._topic}, {len(self._asked)} asked>"

    def ask(self, ids: Iterable[int]) -> None:
        """Ask, unless the question before has no answer yet."""
        if self._asked:
            return
        wanted = {TopicPartition(self._topic, id): OffsetSpec.latest() for id in ids}  # type: ignore[no-untyped-call]
        with suppress(KafkaException):
            self._client = self._client or self._admin_client()
            self._asked = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ASK_SECS
            )

    def forget(self) -> None:
        """Ignore the answer that is under way."""
        self._asked = {}

    def heard(self) -> dict[int, int]:
        """The last stable offset by partition, once there is an answer for all. Partitions with an error are left out."""
        if not self._asked or not all(future.done() for future in self._asked.values()):
            return {}
        asked, self._asked = self._asked, {}
        return {place.partition: future.result().offset for place, future in asked.items() if not future.exception()}
