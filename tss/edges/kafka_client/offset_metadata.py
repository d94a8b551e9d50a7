"""The text beside a committed offset (Kafka's offset metadata): what the next owner of the partition has to know."""

from __future__ import annotations

import json

from confluent_kafka import TopicPartition

from tss.core.parked import ParkingCheckpoint
from tss.core.partition import Commit
from tss.core.timeline import MOST as MOST_ENTRIES
from tss.core.timeline import Entry

VERSION = 1
MOST = 1 << 63
MOST_LETTERS = 32  # of a fingerprint


def to_metadata(commit: Commit, partitions: int | None = None) -> str:
    """The text beside a committed offset: some 200 of the 4096 bytes that brokers allow, and 33 for each change of the ruleset.

    ``partitions``: the number that the topic had when a group without any offset began at the ends of its partitions.
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
    if commit.rules:
        known["rules"] = commit.rules
    return json.dumps(known, separators=(",", ":"))


def metadata_of(place: TopicPartition) -> str | None:
    """The text beside a committed offset, or None. Any program may commit for the group, with any bytes here; the client
    raises where they are not UTF-8."""
    try:
        return place.metadata
    except (UnicodeDecodeError, SystemError):
        return None


def from_metadata(text: str | None) -> tuple[int | None, int | None, ParkingCheckpoint | None]:
    """The offset to begin reading at, the time in ms to read the output topic from, and the parking checkpoint. Each is
    None when another program, or a newer version, wrote the text."""
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
    """The ``partitions`` that were given to `to_metadata`."""
    try:
        known = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return _whole(known.get("of")) if isinstance(known, dict) and known.get("v") == VERSION else None


def topic_of(text: str | None) -> str:
    """The id of the topic that has this offset; empty where it was not written, as by older versions."""
    try:
        known = json.loads(text or "")
    except (ValueError, RecursionError):
        return ""
    topic = known.get("topic") if isinstance(known, dict) and known.get("v") == VERSION else None
    return topic if isinstance(topic, str) else ""


def rules_of(text: str | None) -> tuple[Entry, ...]:
    """The partition's timeline; empty where it was not written, as by older versions."""
    try:
        known = json.loads(text or "")
        if known["v"] != VERSION:
            return ()
        entries = [_entry(each) for each in known["rules"]]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ()
    return tuple(entries[-MOST_ENTRIES:]) if entries == sorted(entries) else ()


def _entry(value: object) -> Entry:
    match value:
        case [second, str(fingerprint)] if (at := _whole(second)) is not None and len(fingerprint) <= MOST_LETTERS:
            return at, fingerprint
    raise ValueError


def _whole(value: object) -> int | None:
    """The value, if it can be an offset or a time: Kafka's are signed 64-bit numbers."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST else None
