"""What was decided of traces that are gone: every late or repeated span follows it (law 2)."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet

import attrs

from tss.core.decision import Decision

_NOTHING: frozenset[tuple[int, int]] = (
    frozenset()
)  # shared: most kept traces have been delivered, and a set is 216 bytes


@attrs.define
class Kept:
    """A kept trace: its decision, and which of its fragments every destination has.

    ``covered`` is by partition the highest offset delivered. Deliveries overtake each other, so what is on its way is
    named in ``outstanding``: (partition, offset) that is not delivered although a higher one may be.
    """

    decision: Decision
    first: tuple[int, int] = (-1, 0)  # the partition that closed it, and the offset of its first record there
    covered: dict[int, int] = attrs.field(factory=dict)
    outstanding: AbstractSet[tuple[int, int]] = _NOTHING

    def has_delivered(self, partition: int, offset: int) -> bool:
        """Whether a fragment read again is one that every destination has."""
        return offset <= self.covered.get(partition, -1) and (partition, offset) not in self.outstanding


class DroppedSet:
    """Remembers at least the last ``limit`` dropped traces, in two open-addressed tables of 64-bit hashes.

    When the new table has ``limit`` entries the old one is forgotten: no entry is ever moved or removed, and a look-up
    costs the same at any size. Two of ten million traces share a hash once in 400,000 runs.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._mask = (1 << (2 * limit - 1).bit_length()) - 1  # at most half full: a miss looks at two slots
        self._new = self._table()
        self._old: array[int] = array("Q")
        self._count = 0

    def __len__(self) -> int:
        return self._count + (self._limit if self._old else 0)

    def _table(self) -> array[int]:
        return array("Q", bytes(8)) * (self._mask + 1)

    def add(self, trace_id: bytes) -> None:
        """Remember it."""
        table, mask = self._new, self._mask
        key = _key(trace_id)
        slot = key & mask
        while found := table[slot]:
            if found == key:
                return
            slot = (slot + 1) & mask
        table[slot] = key
        self._count += 1
        if self._count == self._limit:
            self._old, self._new, self._count = table, self._table(), 0

    def __contains__(self, trace_id: bytes) -> bool:
        key, mask = _key(trace_id), self._mask
        for table in (self._new, self._old):
            if table:
                slot = key & mask
                while found := table[slot]:
                    if found == key:
                        return True
                    slot = (slot + 1) & mask
        return False


def _key(trace_id: bytes) -> int:
    """The interpreter's own keyed hash, so that no choice of trace ids can fill one place; 0 marks an empty slot."""
    return (hash(trace_id) & 0xFFFF_FFFF_FFFF_FFFF) or 1


class Memory:
    """The local decision memory, bounded by counts: least recently used for kept, by age for dropped."""

    def __init__(self, kept_limit: int = 50_000, dropped_limit: int = 500_000) -> None:
        self._kept_limit = kept_limit
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._dropped = DroppedSet(dropped_limit)

    def __repr__(self) -> str:
        return f"<Memory {self.kept} kept, {self.dropped} dropped>"

    @property
    def kept(self) -> int:
        """How many kept traces are remembered."""
        return len(self._kept)

    @property
    def dropped(self) -> int:
        """How many dropped traces are remembered."""
        return len(self._dropped)

    def decided(self, trace_id: bytes, decision: Decision, first: tuple[int, int]) -> None:
        """Remember a decision; nothing of the trace counts as delivered yet."""
        if not decision.keeps:
            self._dropped.add(trace_id)
            return
        self._kept[trace_id] = Kept(decision, first)
        while len(self._kept) > self._kept_limit:
            self._kept.popitem(last=False)

    def sending(self, trace_id: bytes, offsets: Iterable[tuple[int, int]]) -> None:
        """The fragments of these (partition, offset) of a kept trace are on their way."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            kept.outstanding = kept.outstanding | {*offsets}

    def delivered(self, trace_id: bytes, offsets: Collection[tuple[int, int]]) -> None:
        """Every destination has them."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            for partition, offset in offsets:
                kept.covered[partition] = max(offset, kept.covered.get(partition, -1))
            kept.outstanding = (kept.outstanding - {*offsets}) or _NOTHING

    def recall_kept(self, trace_id: bytes) -> Kept | None:
        """What is known of a trace that was kept."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            self._kept.move_to_end(trace_id)
        return kept

    def was_dropped(self, trace_id: bytes) -> bool:
        """Whether the trace is remembered as dropped."""
        return trace_id in self._dropped
