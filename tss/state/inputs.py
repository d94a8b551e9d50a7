"""Which partitions of the input topic the first stage (`kafka.rekey`) has, and how far it has written them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
import trio

from tss.core import measures
from tss.core.alignment import Alignment, ReadRecord
from tss.core.logfields import partition_fields
from tss.core.measures import Meter
from tss.core.partition import Commit
from tss.core.startposition import StartPosition

log = structlog.get_logger()


class Inputs:
    """The assigned partitions of the first stage. Kafka's client calls ``assigned``, ``revoked`` and ``lost`` inside a poll."""

    def __init__(
        self, topic: str, alignment: Alignment, meter: Meter, wall_secs: Callable[[], float] = time.time
    ) -> None:
        self.alignment = alignment
        self.topic = topic
        self.in_hand: Sequence[ReadRecord] = ()  # read, and being written now
        self._meter = meter
        self._wall_secs = wall_secs
        self._ids: set[int] = set()
        self._next: dict[int, int] = {}  # the offset after the last record that is written
        self._written_ms: dict[int, int] = {}  # the largest timestamp among them
        self._lags: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Inputs {self.alignment}>"

    def assigned(self, starts: Mapping[int, StartPosition]) -> dict[int, Commit]:
        """These partitions are ours from now on. Returns the commits to make at once: the start position of each partition
        without a committed offset."""
        self._ids |= starts.keys()
        self.alignment.forget(starts)
        self.alignment.begin(starts)
        for id, start in starts.items():
            self._next[id] = start.offset
            self._meter.count(measures.RECORDS_LOST, 0, self.topic, str(id))  # an increase is seen from 0 on
            self._show_age(id)
        if starts:
            told = {id: start.told() for id, start in starts.items()}
            log.info("partitions to split by trace assigned", **partition_fields(starts, starts=told))
        return {
            id: Commit(start.offset, start.offset, topic=start.topic)
            for id, start in starts.items()
            if not start.committed
        }

    async def revoked(self, ids: Sequence[int]) -> dict[int, Commit]:
        """These go to another member. There is nothing to commit: each transaction contains its offsets."""
        self._forget(ids)
        log.info("partitions to split by trace revoked", **partition_fields(ids))
        await trio.lowlevel.checkpoint()
        return {}

    def lost(self, ids: Sequence[int]) -> None:
        """These belong to another member already, which reads again the records that are not written."""
        self._forget(ids)
        log.warning(
            "partitions to split by trace lost: Kafka did not hear from this replica in time; their next owner reads again from "
            "the last commit, and no span is lost",
            **partition_fields(ids),
        )

    def identify(self, topic: str) -> None:
        """Only log it: each transaction contains its offsets, with the topic's id."""
        log.info("the brokers now give the topic's id", topic=self.topic, topic_id=topic)

    def _forget(self, ids: Sequence[int]) -> None:
        self.alignment.forget(ids)
        self._ids.difference_update(ids)
        for id in ids:
            for known in (self._next, self._written_ms, self._lags):
                known.pop(id, None)
            self._meter.forget(measures.CONSUMER_LAG, self.topic, str(id))
            self._meter.forget(measures.OLDEST_AGE, self.topic, str(id))

    def show_lags(self, lags: Mapping[int, int]) -> None:
        """Show the lag of each partition."""
        for id in self._ids & lags.keys():
            self._lags[id] = lags[id]
            self._meter.set(measures.CONSUMER_LAG, lags[id], self.topic, str(id))

    def written(self, reads: Sequence[ReadRecord]) -> None:
        """The keyed topic has these."""
        for read in reads:
            id = read.partition.id
            if id in self._ids and not read.partition.gone:
                self._next[id] = read.offset + 1
                self._written_ms[id] = max(self._written_ms.get(id, 0), read.timestamp_ms)

    def needed(self) -> dict[int, int]:
        """By partition, the oldest offset that is not written."""
        return {
            id: after if (oldest := self._oldest(id)) is None else oldest.offset for id, after in self._next.items()
        }

    def _oldest(self, id: int) -> ReadRecord | None:
        in_hand = (each for each in self.in_hand if each.partition.id == id and not each.partition.gone)
        return next(in_hand, self.alignment.waiting_from(id))

    def _show_age(self, id: int) -> None:
        self._meter.forget(measures.OLDEST_AGE, self.topic, str(id))
        self._meter.watch(measures.OLDEST_AGE, lambda: self._oldest_age_secs(id), self.topic, str(id))

    def _oldest_age_secs(self, id: int) -> float:
        oldest = self._oldest(id)
        if oldest is None and not self._lags.get(id):
            return 0.0
        since_ms = self._written_ms.get(id, 0) if oldest is None else oldest.timestamp_ms
        return max(0.0, self._wall_secs() - since_ms / 1000) if since_ms > 0 else math.nan
