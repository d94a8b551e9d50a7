"""The id of the topic: one that is deleted and made again under the same name has another (KIP-516, Kafka 2.8).

Without the id, an offset of the old topic would count as a position in the new one. A running consumer does not notice
the change: librdkafka 2.16 goes on at the old position if the new topic is long enough (measured, Kafka 4.3).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._topic import TopicDescription

ASK_SECS = 2.0  # the timeout of one request
TRIES = 3  # at an assignment
LOOK_SECS = 5.0  # between two requests while the partitions are read
NO_ID = "A" * 22  # from a broker without ids: 16 zero bytes

Asked = Future[TopicDescription]


class TopicIdentity:
    """The id of one topic; empty where the brokers do not tell it, or an ACL denies it. Raises nothing."""

    def __init__(self, topic: str, admin_client: Callable[[], AdminClient]) -> None:
        self.known = ""  # the id of the topic that the assigned partitions belong to
        self._topic = topic
        self._admin_client = admin_client
        self._client: AdminClient | None = None
        self._asked: Asked | None = None
        self._next_look = 0.0

    def __repr__(self) -> str:
        return f"<TopicIdentity of {self._topic} {self.known}>"

    def ask(self) -> str:
        """The id that the topic has now. Blocks for a few seconds at most."""
        for _ in range(TRIES):
            asked = self._send()
            told = "" if asked is None else _told(asked, ASK_SECS + 1.0)
            if told:
                return told
        return ""

    def has_changed(self, *, now: bool = False) -> bool:
        """Whether the topic is another one by now. It is asked every LOOK_SECS, without waiting for the answer; with
        ``now`` at once. An id that was unknown at the assignment becomes the known one."""
        if now:
            return self._is_another(self.ask())
        if self._asked is not None:
            if not self._asked.done():
                return False
            asked, self._asked = self._asked, None
            return self._is_another(_told(asked, 0.0))
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECS
            self._asked = self._send()
        return False

    def _is_another(self, told: str) -> bool:
        if not self.known:
            self.known = told
        return bool(told) and told != self.known

    def _send(self) -> Asked | None:
        with suppress(KafkaException):
            self._client = self._client or self._admin_client()
            asked = self._client.describe_topics(TopicCollection([self._topic]), request_timeout=ASK_SECS)
            return asked[self._topic]
        return None


def _told(asked: Asked, secs: float) -> str:
    try:
        id = str(asked.result(secs).topic_id)
    except (KafkaException, TimeoutError):  # the topic is missing, brokers are away, an ACL denies it
        return ""
    return "" if id in (NO_ID, "None") else id
