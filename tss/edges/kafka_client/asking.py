"""Requests that are repeated until the brokers answer, on a thread that blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tss.core.errors import CannotConnect
from tss.edges.kafka_client.errors import HEADLINE, cause_of, is_fatal, said

PAUSE_SECS = 0.2  # between two tries

T = TypeVar("T")


def until_answered(
    ask: Callable[[], T],
    deadline: float,
    breathe: Callable[[], None],
    failure: str,
    note: Callable[[KafkaError], None] = lambda _: None,
) -> T:
    """Call ``ask`` until it does not raise KafkaException; ``deadline`` is on the monotonic clock.

    ``note`` takes in each error, and may raise. ``breathe`` is called between two tries, and may raise. Raises
    CannotConnect, beginning with ``failure``, after a fatal error or after the deadline.
    """
    while True:
        try:
            return ask()
        except KafkaException as error:
            cause = cause_of(error)
        note(cause)
        if is_fatal(cause) or time.monotonic() > deadline:
            raise CannotConnect(f"{HEADLINE}: {failure}: {said(cause)}")
        time.sleep(PAUSE_SECS)
        breathe()


def without_errors(places: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
    """The same answers. Raises KafkaException for the first partition with an error."""
    for place in places:
        if place.error:
            raise KafkaException(place.error)
    return places
