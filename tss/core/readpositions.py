"""Which read positions to commit to the group of the scaler (`kafka.scalerGroup`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# After a rebalance a partition is read again from its low water. That takes seconds, and more replicas would not help. If a
# position stays lower for longer than this, the records are a backlog, and more replicas would help.
PATIENCE_SECS = 30.0
# A group without members loses its offsets after offsets.retention.minutes (7 days), unless they are committed again.
REPEAT_SECS = 3600.0


class ReadPositions:
    """The positions that the group has committed, and which of ours have to be committed next."""

    def __init__(self) -> None:
        self._standing: dict[int, int] = {}
        self._told_at: dict[int, float] = {}
        self._behind_since: dict[int, float] = {}  # since when our position is below the committed one, by partition

    def __repr__(self) -> str:
        return f"<ReadPositions {self._standing}, read again {sorted(self._behind_since)}>"

    def keep(self, ids: Iterable[int]) -> None:
        """Only these partitions are still assigned. Another replica may commit positions of the others."""
        ours = set(ids)
        for known in (self._standing, self._told_at, self._behind_since):
            for id in known.keys() - ours:
                del known[id]

    def unknown(self, positions: Mapping[int, int]) -> list[int]:
        """The partitions whose committed position is unknown."""
        return [id for id in positions if id not in self._standing]

    def learn(self, standing: Mapping[int, int], now: float) -> None:
        """The committed positions of partitions that were just assigned."""
        self._standing |= standing
        self._told_at |= dict.fromkeys(standing, now)

    def due(self, positions: Mapping[int, int], now: float) -> dict[int, int]:
        """The positions to commit now."""
        return {id: position for id, position in positions.items() if self._is_due(id, position, now)}

    def _is_due(self, id: int, position: int, now: float) -> bool:
        standing = self._standing.get(id, -1)
        if position < standing:
            return now - self._behind_since.setdefault(id, now) >= PATIENCE_SECS
        self._behind_since.pop(id, None)
        return position > standing or now - self._told_at.get(id, now) >= REPEAT_SECS
