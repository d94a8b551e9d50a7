"""Where to begin on a partition, given its committed offset and what the topic has."""

from __future__ import annotations

import attrs

from tss.core.errors import LawBroken
from tss.core.startposition import StartPosition
from tss.edges.kafka_client.offset_metadata import from_metadata


def start_of(committed: int | None, metadata: str | None, first: int, end: int | None, reset: str) -> StartPosition:
    """Where to begin, given the group's offset (None when there is none) and what the log holds.

    An offset that retention has taken is not `committed`: the new one has yet to be. An offset beyond the end is left
    as it is: only a fetch can tell (Tansu names the end too low). Such an end, or none, is no horizon.
    """
    if committed is None:
        if reset == "earliest":
            return StartPosition(
                first, first, committed=False, end=end, why="no committed offset, first record there is"
            )
        if end is None:
            raise LawBroken("a partition without an offset is begun at an end that nobody told: law 1 would break")
        return StartPosition(end, end, committed=False, end=end, why="no committed offset, end of the partition")
    if end is not None and end < max(committed, first):
        end = None
    replay, since_ms, parked = from_metadata(metadata)
    if parked is not None:
        parked = attrs.evolve(parked, floor=max(first, parked.floor))
    if committed < first:
        why = f"committed offset {committed} is deleted, first record that is left"
        return StartPosition(first, first, committed=False, since_ms=since_ms, end=end, parked=parked, why=why)
    replay_from = committed if replay is None else min(committed, max(first, replay))
    return StartPosition(committed, replay_from, committed=True, since_ms=since_ms, end=end, parked=parked)
