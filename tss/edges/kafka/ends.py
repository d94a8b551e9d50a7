"""Where partitions end, and up to when that is known: from librdkafka's statistics, or asked where nothing is fetched.

Source: librdkafka STATISTICS.md. What the fields do was measured on Apache Kafka 4.3 and Tansu 0.6; see `PartitionEnds`.
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
    """One partition in one statistics snapshot, with its fetching known to be fresh."""

    high: int  # the log's end
    stable: int  # the end of what may be read: open transactions begin here
    fetched: int  # the offset to be fetched next
    queued: int  # fetched, and not yet handed over
    known_ms: int


class PartitionEnds:
    """The ends of the assigned partitions.

    A partition is at its end when nothing of it is queued and the next offset to fetch is the high watermark (not the
    stable offset: records of an open transaction are older than the wall clock, and still to come). Up to when: the
    time of the snapshot less the time since its broker last said anything. Answers on a connection come in the order of
    the requests, and a waiting fetch is answered as soon as there is a record, so a broker that speaks has no news.

    Watermarks and offsets stay as they were after a pause, a revocation or a change of the leader until the next fetch
    is answered. So a partition counts only when its broker has been sent two fetches since the first snapshot that
    showed it active: one fetch at a time is on its way, so the first of the two has been answered.
    """

    def __init__(self) -> None:
        self._fetches: dict[int, tuple[int, int]] = {}  # partition: broker, and how many fetches it had been sent
        self._ends: dict[int, _End] = {}

    def __repr__(self) -> str:
        return f"<PartitionEnds {self._ends}>"

    def begin(self, ids: Iterable[int]) -> None:
        """What is known of these is void: assigned, revoked, moved, paused or resumed."""
        for id in ids:
            self._fetches.pop(id, None)
            self._ends.pop(id, None)

    def clear(self) -> None:
        """Forget the snapshot, once used; the count of fetches goes on."""
        self._ends.clear()

    def see(self, ids: Iterable[int], topic: Mapping[str, Any], brokers: Mapping[str, Any], emitted_ms: int) -> None:
        """Take in a snapshot: of the topic's part `partitions`, and of `brokers`."""
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
        """The partitions at their end, given the offset after the last record handed over: up to which wall ms."""
        return {
            id: end.known_ms
            for id, end in self._ends.items()
            if not end.queued and max(end.fetched, positions[id]) >= end.high
        }

    def read_to(self, ids: Iterable[int]) -> dict[int, int]:
        """The log's end of partitions at their end: at the position, or above it, where a transaction's marker or what
        was aborted comes last."""
        return {id: self._ends[id].high for id in ids}

    def lags(self, positions: Mapping[int, int]) -> dict[int, int]:
        """Records between the position and what may be read, by partition."""
        lags = {}
        for id, end in self._ends.items():
            position = positions[id] if end.queued else max(end.fetched, positions[id])
            lags[id] = max(0, end.stable - position)
        return lags


class AskedEnds:
    """The ends of partitions while nothing of them is fetched, asked without waiting for the answer: the thread that
    asks is the one that commits. Raises nothing."""

    def __init__(self, topic: str, directory: Callable[[], AdminClient]) -> None:
        self._topic = topic
        self._directory = directory
        self._client: AdminClient | None = None
        self._asked: dict[TopicPartition, Future[ListOffsetsResultInfo]] = {}

    def __repr__(self) -> str:
        return f"<AskedEnds of {self._topic}, {len(self._asked)} asked>"

    def ask(self, ids: Iterable[int]) -> None:
        """Ask, unless what was asked before has no answer yet."""
        if self._asked:
            return
        wanted = {TopicPartition(self._topic, id): OffsetSpec.latest() for id in ids}  # type: ignore[no-untyped-call]
        with suppress(KafkaException):
            self._client = self._client or self._directory()
            self._asked = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ASK_SECS
            )

    def forget(self) -> None:
        """An answer that is on its way is not wanted any more."""
        self._asked = {}

    def heard(self) -> dict[int, int]:
        """The offset after the last record that may be read, by partition, once all are answered; of those that were told."""
        if not self._asked or not all(future.done() for future in self._asked.values()):
            return {}
        asked, self._asked = self._asked, {}
        return {place.partition: future.result().offset for place, future in asked.items() if not future.exception()}
