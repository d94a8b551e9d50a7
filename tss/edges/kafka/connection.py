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
SILENCE_SECS = 10.0  # unreachable brokers without an error are reported after this long


class BrokerConnection:
    """The state of the connection to the brokers. Errors and statistics come in on the client's thread, `tell` is called
    on trio's.

    It needs no lock: the source's limiter lets only one of the two run at a time.
    """

    def __init__(self, brokers: str, topic: str, group_protocol: str = "classic", component: str = "kafka") -> None:
        self.refused: CannotConnect | None = None
        self.topic_missing = False
        self._joined = False
        self._brokers = brokers
        self._topic = topic
        # For brokers that answer, but not for the group: a broker that does not know the protocol gives no error.
        self._no_group = (
            f"no broker answers for the group, {CHECK_PROTOCOL}" if group_protocol == "consumer" else "no answer"
        )
        self._silence = "no answer"
        self._component = component  # of /health
        self._counts: Counter[str] = Counter()
        self._lost: Counter[int] = Counter()  # offsets by partition, not in the metric yet
        self._reason = ""  # of the last error while unreachable
        self._reachable: bool | None = None  # None until the first statistics
        self._unreachable_since: float | None = None
        self._told = ""
        self._told_at = 0.0

    def __repr__(self) -> str:
        return (
            f"<BrokerConnection to {self._brokers} joined {self._joined} reachable {self._reachable} {self._reason!r}>"
        )

    def refusal(self, error: KafkaError) -> CannotConnect:
        """The exception for a fatal error, which ends the daemon."""
        return CannotConnect(f"{HEADLINE}: {self._brokers}: {said(error)}, {advice(error)}")

    def note(self, error: KafkaError) -> None:
        """Take in an error that the client reports. The first fatal one is kept in `refused`."""
        if is_fatal(error):
            self.refused = self.refused or self.refusal(error)
            return
        self._counts[error.name()] += 1
        if error.name() in TOPIC_MISSING:
            self.topic_missing = True
        elif error.name() != "_ALL_BROKERS_DOWN" or not self._reason:  # that error has no reason
            self._reason = said(error)

    def lose(self, partition: int, wanted: int, first: int) -> None:
        """Records from ``wanted`` to below ``first`` were deleted before they were processed."""
        self._lose(
            "records were deleted before they were processed: they are lost, and reading goes on with the first that is left;"
            " compare the topic's retention with kafka_oldest_uncommitted_age_seconds",
            partition, wanted, first,
        )  # fmt: skip

    def lose_unread(self, partition: int, first: int, after: int, reason: str) -> None:
        """The client could not read the offsets from ``first`` to below ``after``, and skipped them."""
        self._lose(
            "records could not be read from the brokers' answer: they are lost to this replica, and reading goes on after them;"
            " look for a broken disk or a proxy that changes bytes, and read them again with another consumer",
            partition, first, after, reason=reason,
        )  # fmt: skip

    def _lose(self, event: str, partition: int, first: int, after: int, **more: str) -> None:
        """Count the offsets from ``first`` to below ``after``, and log it."""
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
        """The group has assigned partitions, perhaps none. So a broker answers."""
        self._joined = True
        self.topic_missing = self.topic_missing and not has_partitions
        self._be_reachable()

    def leave(self) -> None:
        """The group has expelled this member."""
        self._joined = False

    def _be_reachable(self) -> None:
        self._reachable, self._reason, self._unreachable_since = True, "", None

    def see(self, statistics: Mapping[str, Any], leaders: set[int], now: float) -> None:
        """Take in librdkafka's statistics. ``leaders``: the brokers that the assigned partitions are read from."""
        up = {broker["nodeid"] for broker in statistics["brokers"].values() if broker["state"] == "UP"}
        self._reachable = statistics.get("cgrp", {}).get("state") == "up" and leaders <= up
        if self._reachable:
            self._be_reachable()
        elif self._unreachable_since is None:
            self._unreachable_since = now
        self._silence = self._no_group if up else "no answer"

    def _is_certain(self, now: float) -> bool:
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
        """Update metrics and /health; log when the state changes, and every REPEAT_SECS while it is bad."""
        for name, count in self._counts.items():
            meter.count(measures.KAFKA_ERRORS, count, name)
        self._counts.clear()
        for partition, lost in self._lost.items():
            meter.count(measures.RECORDS_LOST, lost, self._topic, str(partition))
        self._lost.clear()
        trouble = self._trouble
        if not self._is_certain(now):
            return  # starting, or between two connections
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
