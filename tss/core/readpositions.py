"""What to tell the scaler's group: how far each partition has been read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# A partition that changes hands is read again from its low water, which takes seconds and is no backlog. What goes back
# for longer is: records that have to be read, at a speed that more replicas would raise.
PATIENCE_SECS = 30.0
# Kafka forgets an offset of a group without members that nobody commits again (offsets.retention.minutes, 7 days).
REPEAT_SECS = 3600.0


class ReadPositions:
    """The positions that stand under the group, by partition, and what of ours has to be told."""

    def __init__(self) -> None:
        self._standing: dict[int, int] = {}
        self._told_at: dict[int, float] = {}
        self._behind_since: dict[int, float] = {}  # those that are read again, below what stands

    def __repr__(self) -> str:
        return f"<ReadPositions {self._standing}, read again {sorted(self._behind_since)}>"

    def keep(self, ids: Iterable[int]) -> None:
        """Only these are ours still: what stands of others may be another's by the time that they come back."""
        ours = set(ids)
        for known in (self._standing, self._told_at, self._behind_since):
            for id in known.keys() - ours:
                del known[id]

    def unknown(self, positions: Mapping[int, int]) -> list[int]:
        """The partitions of which it is not known what stands."""
        return [id for id in positions if id not in self._standing]

    def learn(self, standing: Mapping[int, int], now: float) -> None:
        """What the group has of partitions that have come."""
        self._standing |= standing
        self._told_at |= dict.fromkeys(standing, now)

    def due(self, positions: Mapping[int, int], now: float) -> dict[int, int]:
        """What to commit."""
        return {id: position for id, position in positions.items() if self._is_due(id, position, now)}

    def _is_due(self, id: int, position: int, now: float) -> bool:
        standing = self._standing.get(id, -1)
        if position < standing:
            return now - self._behind_since.setdefault(id, now) >= PATIENCE_SECS
        self._behind_since.pop(id, None)
        return position > standing or now - self._told_at.get(id, now) >= REPEAT_SECS
