"""What was decided of traces that are gone: every late or repeated span follows it (law 2)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Iterable

import attrs

from tss.core.decision import Decision

GENERATION = 65_536  # dropped traces a generation: a set of this many ids is small, a bisection of them 16 steps


@attrs.define
class Kept:
    """A kept trace: its decision, and which of its fragments every destination has.

    ``covered`` is by partition the highest offset delivered. Deliveries overtake each other, so what is on its way is
    named in ``outstanding``: (partition, offset) that is not delivered although a higher one may be.
    """

    decision: Decision
    covered: dict[int, int] = attrs.field(factory=dict)
    outstanding: set[tuple[int, int]] = attrs.field(factory=set)

    def has_delivered(self, partition: int, offset: int) -> bool:
        """Whether a fragment read again is one that every destination has."""
        return offset <= self.covered.get(partition, -1) and (partition, offset) not in self.outstanding


def _key(trace_id: bytes) -> int:
    """The low 64 bits, which every tracing system draws at random: two of ten million agree once in 400,000 runs."""
    return int.from_bytes(trace_id[8:], "big")


class DroppedSet:
    """Remembers at least the last ``limit`` dropped traces in about 10 bytes each, forgetting whole generations."""

    def __init__(self, limit: int) -> None:
        self._current: set[int] = set()
        self._frozen: deque[array[int]] = deque(maxlen=max(1, -(-limit // GENERATION)))

    def __len__(self) -> int:
        return len(self._current) + sum(map(len, self._frozen))

    def add(self, trace_id: bytes) -> None:
        """Remember it."""
        self._current.add(_key(trace_id))
        if len(self._current) >= GENERATION:
            self._frozen.append(array("Q", sorted(self._current)))
            self._current = set()

    def __contains__(self, trace_id: bytes) -> bool:
        key = _key(trace_id)
        if key in self._current:
            return True
        for keys in self._frozen:
            index = bisect_left(keys, key)
            if index < len(keys) and keys[index] == key:
                return True
        return False


class Memory:
    """The local decision memory, bounded by counts: least recently used for kept, by age for dropped."""

    def __init__(self, kept_limit: int = 100_000, dropped_limit: int = 1_000_000) -> None:
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

    def decided(self, trace_id: bytes, decision: Decision) -> None:
        """Remember a decision; nothing of the trace counts as delivered yet."""
        if not decision.keeps:
            self._dropped.add(trace_id)
            return
        self._kept[trace_id] = Kept(decision)
        while len(self._kept) > self._kept_limit:
            self._kept.popitem(last=False)

    def sending(self, trace_id: bytes, offsets: Iterable[tuple[int, int]]) -> None:
        """The fragments of these (partition, offset) of a kept trace are on their way."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            kept.outstanding.update(offsets)

    def delivered(self, trace_id: bytes, offsets: Iterable[tuple[int, int]]) -> None:
        """Every destination has them."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            for partition, offset in offsets:
                kept.outstanding.discard((partition, offset))
                kept.covered[partition] = max(offset, kept.covered.get(partition, -1))

    def recall_kept(self, trace_id: bytes) -> Kept | None:
        """What is known of a trace that was kept."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            self._kept.move_to_end(trace_id)
        return kept

    def was_dropped(self, trace_id: bytes) -> bool:
        """Whether the trace is remembered as dropped."""
        return trace_id in self._dropped
