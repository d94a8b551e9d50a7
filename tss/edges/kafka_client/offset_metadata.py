"""The text beside a committed offset (Kafka's offset metadata): what the next owner of the partition has to know."""

from __future__ import annotations

import json

from confluent_kafka import TopicPartition

from tss.core.parked import ParkingCheckpoint
from tss.core.partition import Commit

VERSION = 1
MOST = 1 << 63


def to_metadata(commit: Commit, partitions: int | None = None) -> str:
    """The text that goes with a committed offset; some 160 of the 4096 bytes that brokers allow.

    ``partitions``: how many the topic had when the group, which had no offset at all, began at the ends of its logs.
    """
    known: dict[str, object] = {"v": VERSION, "replay": commit.replay_from}
    if partitions is not None:
        known["of"] = partitions
    if commit.since_ms is not None:
        known["since"] = commit.since_ms
    if commit.parked is not None:
        known["parked"] = [commit.parked.floor, commit.parked.token, commit.parked.seq]
    if commit.topic:
        known["topic"] = commit.topic
    return json.dumps(known, separators=(",", ":"))


def metadata_of(place: TopicPartition) -> str | None:
    """What stands beside a committed offset, or None. Whoever commits for the group may write any bytes there, and the
    client raises where they are not UTF-8."""
    try:
        return place.metadata
    except (UnicodeDecodeError, SystemError):
        return None


def from_metadata(text: str | None) -> tuple[int | None, int | None, ParkingCheckpoint | None]:
    """Where to begin reading, since when to read the output topic, and what has to be parked; None when somebody else,
    or a version to come, wrote it."""
    try:
        known = json.loads(text or "")
    except (ValueError, RecursionError):
        return None, None, None
    if not isinstance(known, dict) or known.get("v") != VERSION:
        return None, None, None
    return _whole(known.get("replay")), _whole(known.get("since")), _place(known.get("parked"))


def _place(value: object) -> ParkingCheckpoint | None:
    match value:
        case [floor, str(token), seq] if (at := _whole(floor)) is not None and (number := _whole(seq)) is not None:
            return ParkingCheckpoint(at, token, number)
    return None


def partitions_at_birth(text: str | None) -> int | None:
    """What `to_metadata` was given as ``partitions``."""
    try:
        known = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return _whole(known.get("of")) if isinstance(known, dict) and known.get("v") == VERSION else None


def topic_of(text: str | None) -> str:
    """The id of the topic that the offset is of; empty when nobody said, as versions before did not."""
    try:
        known = json.loads(text or "")
    except (ValueError, RecursionError):
        return ""
    topic = known.get("topic") if isinstance(known, dict) and known.get("v") == VERSION else None
    return topic if isinstance(topic, str) else ""


def _whole(value: object) -> int | None:
    """A number that an offset or a time can be: Kafka's are signed, of 64 bits."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST else None
