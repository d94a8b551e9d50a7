"""Where to begin on a partition, given its committed offset and what the topic has."""

from __future__ import annotations

import attrs

from tss.core.errors import LawBroken
from tss.core.startposition import StartPosition
from tss.edges.kafka_client.offset_metadata import from_metadata, rules_of


def start_of(committed: int | None, metadata: str | None, first: int, end: int | None, reset: str) -> StartPosition:
    """Where to begin: from the group's offset (None without one), its metadata, and the first offset and end of the
    partition (None if the end is unknown). ``reset`` is kafka.autoOffsetReset.

    An offset below the first record is not `committed`: the new one has yet to be committed. An offset beyond the end
    is kept, since only a fetch shows whether it exists (Tansu reports the end too low). The end counts as unknown then.
    """
    if committed is None:
        if reset == "earliest":
            return StartPosition(
                first, first, committed=False, end=end, why="no committed offset, first record there is"
            )
        if end is None:
            raise LawBroken(
                "a partition without an offset is begun at an end that the brokers did not tell: law 1 would break"
            )
        return StartPosition(end, end, committed=False, end=end, why="no committed offset, end of the partition")
    if end is not None and end < max(committed, first):
        end = None
    replay, since_ms, parked = from_metadata(metadata)
    rules = rules_of(metadata)
    if parked is not None:
        parked = attrs.evolve(parked, floor=max(first, parked.floor))
    if committed < first:
        why = f"committed offset {committed} is deleted, first record that is left"
        return StartPosition(
            first, first, committed=False, since_ms=since_ms, end=end, parked=parked, rules=rules, why=why
        )
    replay_from = committed if replay is None else min(committed, max(first, replay))
    return StartPosition(committed, replay_from, committed=True, since_ms=since_ms, end=end, parked=parked, rules=rules)
