"""The state of the connection to the brokers, for the log, the metrics and /health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import KafkaError

from tss.core import measures
from tss.core.errors import CannotConnect
from tss.core.health import Health
from tss.core.measures import Meter
from tss.edges.kafka_client.errors import CHECK_PROTOCOL, HEADLINE, TOPIC_MISSING, advice, is_fatal, said

log = structlog.get_logger()

REPEAT_SECS = 30.0
SILENCE_SECS = 10.0  # brokers that cannot be reached, and say nothing about it, are trouble after this long


class BrokerConnection:
    """How the connection to the brokers is. Errors and statistics come in on the client's thread, `tell` on trio's.

    No lock: the one limiter of the source keeps the two apart.
    """

    def __init__(self, brokers: str, topic: str, group_protocol: str = "classic", component: str = "kafka") -> None:
        self.refused: CannotConnect | None = None
        self.topic_missing = False
        self._joined = False
        self._brokers = brokers
        self._topic = topic
        # What to say when brokers answer, but none for the group: one that does not know the protocol says nothing.
        self._no_group = (
            f"no broker answers for the group, {CHECK_PROTOCOL}" if group_protocol == "consumer" else "no answer"
        )
        self._silence = "no answer"
        self._component = component  # of /health
        self._counts: Counter[str] = Counter()
        self._lost: Counter[int] = Counter()  # offsets by partition, not counted yet
        self._reason = ""  # of the last error since all was well
        self._reachable: bool | None = None  # None until the first statistics
        self._unreachable_since: float | None = None
        self._told = ""
        self._told_at = 0.0

    def __repr__(self) -> str:
        return (
            f"<BrokerConnection to {self._brokers} joined {self._joined} reachable {self._reachable} {self._reason!r}>"
        )

    def refusal(self, error: KafkaError) -> CannotConnect:
        """What ends the daemon."""
        return CannotConnect(f"{HEADLINE}: {self._brokers}: {said(error)}, {advice(error)}")

    def note(self, error: KafkaError) -> None:
        """Sort an error that the client reports. The first fatal one is kept in `refused`."""
        if is_fatal(error):
            self.refused = self.refused or self.refusal(error)
            return
        self._counts[error.name()] += 1
        if error.name() in TOPIC_MISSING:
            self.topic_missing = True
        elif error.name() != "_ALL_BROKERS_DOWN" or not self._reason:  # which never says why
            self._reason = said(error)

    def lose(self, partition: int, wanted: int, first: int) -> None:
        """Records were deleted before they were done with: what is wanted is below the first offset that is left."""
        self._lose(
            "records were deleted before they were done with: they are lost, and reading goes on with the first that is left;"
            " compare the topic's retention with kafka_oldest_uncommitted_age_seconds",
            partition, wanted, first,
        )  # fmt: skip

    def lose_unread(self, partition: int, first: int, after: int, reason: str) -> None:
        """The client could not read these offsets, and has gone on with those after them."""
        self._lose(
            "records could not be read from the brokers' answer: they are lost to this replica, and reading goes on after them;"
            " look for a broken disk or a proxy that changes bytes, and read them again with another consumer",
            partition, first, after, reason=reason,
        )  # fmt: skip

    def _lose(self, event: str, partition: int, first: int, after: int, **more: str) -> None:
        """Count the offsets from the first to before the second, and say so."""
        self._lost[partition] += after - first
        log.error(
            event,
            topic=self._topic,
            partition=partition,
            lost_offsets=after - first,
            from_offset=first,
            to_offset=after,
            **more,
        )

    def join(self, *, has_partitions: bool) -> None:
        """The group has given us our share, so a broker answers."""
        self._joined = True
        self.topic_missing = self.topic_missing and not has_partitions
        self._be_reachable()

    def leave(self) -> None:
        """The group has put us out."""
        self._joined = False

    def _be_reachable(self) -> None:
        self._reachable, self._reason, self._unreachable_since = True, "", None

    def see(self, statistics: Mapping[str, Any], leaders: set[int], now: float) -> None:
        """Take in librdkafka's statistics. `leaders` are the brokers that our partitions are read from."""
        up = {broker["nodeid"] for broker in statistics["brokers"].values() if broker["state"] == "UP"}
        self._reachable = statistics.get("cgrp", {}).get("state") == "up" and leaders <= up
        if self._reachable:
            self._be_reachable()
        elif self._unreachable_since is None:
            self._unreachable_since = now
        self._silence = self._no_group if up else "no answer"

    def _speaks_of_it(self, now: float) -> bool:
        since = self._unreachable_since
        return self.topic_missing or bool(self._reason) or since is None or now - since >= SILENCE_SECS

    @property
    def _trouble(self) -> str:
        if self.topic_missing:
            return f"topic {self._topic} does not exist, check kafka.inputTopic"
        if self._reachable or self._unreachable_since is None:
            return ""
        return self._reason or self._silence

    def tell(self, meter: Meter, health: Health, now: float) -> None:
        """Pass on what has come in: counts, health, and a line when the state changes or trouble goes on."""
        for name, count in self._counts.items():
            meter.count(measures.KAFKA_ERRORS, count, name)
        self._counts.clear()
        for partition, lost in self._lost.items():
            meter.count(measures.RECORDS_LOST, lost, self._topic, str(partition))
        self._lost.clear()
        trouble = self._trouble
        if not self._speaks_of_it(now):
            return  # on its way up, or between two connections
        if trouble:
            health.down(self._component, trouble)
            if not self._told or now - self._told_at >= REPEAT_SECS:
                log.warning(HEADLINE, brokers=self._brokers, reason=trouble)
                self._told, self._told_at = trouble, now
            return
        if self._told:
            log.info("connected to Kafka again", brokers=self._brokers)
            self._told = ""
        if self._joined and self._reachable is not False:
            health.up(self._component)
        else:
            health.starting(self._component, "joining the consumer group")
