"""What was decided of traces that are gone: every late or repeated span follows it (law 2)."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tss.core.decision import Decision

if TYPE_CHECKING:
    from tss.core.partition import Partition


class Kept:
    """A kept trace: its decision, and which of its fragments every destination has.

    ``covered`` is by partition the highest offset delivered. Deliveries overtake each other, so what is on its way is
    named in ``outstanding``: (partition, offset) that is not delivered although a higher one may be.
    """

    __slots__ = ("covered", "decision", "first", "in_flight", "outstanding", "parked")

    def __init__(self, decision: Decision, first: tuple[int, int]) -> None:
        self.decision = decision
        self.first = first  # the partition that closed it, and the offset of its first record there
        self.covered: dict[int, int] = {}
        self.outstanding: set[tuple[int, int]] | None = (
            None  # most kept traces have been delivered, and a set is 216 bytes
        )
        self.in_flight = 0  # how often something of it was sent, and has not settled yet
        self.parked: tuple[Partition, int] | None = None  # of what is on its way, all up to this offset was parked

    def __repr__(self) -> str:
        return f"<Kept {self.decision}, covers {self.covered}, outstanding {self.outstanding}>"

    def has_delivered(self, partition: int, offset: int) -> bool:
        """Whether a fragment read again is one that every destination has."""
        if offset > self.covered.get(partition, -1):
            return False
        return self.outstanding is None or (partition, offset) not in self.outstanding

    def has_delivered_up_to(self, partition: int, offset: int) -> bool:
        """Whether that is so of every fragment up to this offset."""
        if offset > self.covered.get(partition, -1):
            return False
        for id, place in self.outstanding or ():  # noqa: SIM110  # Cython takes no generator in a method of C types
            if id == partition and place <= offset:
                return False
        return True

    def sends_parked(self, partition: Partition, offset: int) -> bool:
        """Whether a fragment read again is among what was parked, and is on its way. Not where the partition has come
        back since: then that was given up."""
        return self.parked is not None and self.parked[0] is partition and offset <= self.parked[1]

    def send(self, offsets: Sequence[tuple[int, int]]) -> None:
        """These are on their way."""
        self.in_flight += 1
        if self.outstanding is None:
            self.outstanding = set(offsets)
        else:
            self.outstanding.update(offsets)

    def deliver(self, offsets: Sequence[tuple[int, int]]) -> None:
        """Every destination has these."""
        for partition, offset in offsets:
            if offset > self.covered.get(partition, -1):
                self.covered[partition] = offset
        if self.parked is not None and (self.parked[0].id, self.parked[1]) in offsets:
            self.parked = None
        if self.outstanding is not None:
            self.outstanding.difference_update(offsets)
            if not self.outstanding:
                self.outstanding = None

    def forget_offsets(self, partition: int) -> None:
        """What it says of this partition is of a topic that was deleted."""
        self.covered.pop(partition, None)
        if self.outstanding is not None:
            self.outstanding = {place for place in self.outstanding if place[0] != partition} or None


class RecentIds:
    """Remembers at least the last ``limit`` trace ids, in two open-addressed tables of 64-bit hashes.

    When the new table has ``limit`` entries the old one is forgotten: no entry is ever moved or removed, and a look-up
    costs the same at any size. Two of ten million traces share a hash once in 400,000 runs.
    """

    __slots__ = ("_count", "_limit", "_mask", "_new", "_old")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._mask = (1 << (2 * limit - 1).bit_length()) - 1  # at most half full: a miss looks at two slots
        self._new = self._table()
        self._old = array("q", bytes(8))  # one empty slot
        self._count = 0

    def __len__(self) -> int:
        return self._count + (self._limit if len(self._old) > 1 else 0)

    def _table(self) -> array[int]:
        return array("q", bytes(8)) * (self._mask + 1)

    def add(self, trace_id: bytes) -> None:
        """Remember it."""
        key = _key(trace_id)
        slot = self._find(self._new, key)
        if self._new[slot]:
            return
        self._new[slot] = key
        self._count += 1
        if self._count == self._limit:
            self._old, self._new, self._count = self._new, self._table(), 0

    def __contains__(self, trace_id: bytes) -> bool:
        return self.has(trace_id)

    def has(self, trace_id: bytes) -> bool:
        """The same as ``in``."""
        key = _key(trace_id)
        return self._new[self._find(self._new, key)] != 0 or self._old[self._find(self._old, key)] != 0

    def _find(self, table: array[int], key: int) -> int:
        """Where the key stands, or the empty slot where it would."""
        mask = len(table) - 1
        slot = key & mask
        while table[slot] and table[slot] != key:
            slot = (slot + 1) & mask
        return slot


def _key(trace_id: bytes) -> int:
    """The interpreter's own keyed hash, so that no choice of trace ids can fill one place; 0 marks an empty slot."""
    return hash(trace_id) or 1


class Memory:
    """The local decision memory, bounded by counts: least recently used for kept, by age for dropped.

    With ``evicted_limit`` the ids of kept traces that had to be forgotten stay, in a compact form, for they say what is
    worth asking elsewhere.
    """

    __slots__ = ("_dropped", "_evicted", "_evicted_limit", "_evictions", "_kept", "_kept_limit")

    def __init__(self, kept_limit: int = 50_000, dropped_limit: int = 500_000, evicted_limit: int = 0) -> None:
        self._kept_limit = kept_limit
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._dropped = RecentIds(dropped_limit)
        self._evicted_limit = evicted_limit
        self._evicted: RecentIds | None = None  # made when there is a first one: it is 16 bytes and more an id
        self._evictions = 0

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

    def keep(self, trace_id: bytes, decision: Decision, first: tuple[int, int]) -> None:
        """Remember a decision to keep; nothing of the trace counts as delivered yet."""
        self._kept[trace_id] = Kept(decision, first)
        if len(self._kept) > self._kept_limit:
            self._evict()

    def learn(self, trace_id: bytes, kept: Kept) -> Kept:
        """Remember what was decided elsewhere; returns what is remembered now, which is our own where we have it."""
        known = self.recall_kept(trace_id)
        if known is None:
            known = self._kept[trace_id] = kept
            if len(self._kept) > self._kept_limit:
                self._evict()
        return known

    def _evict(self) -> None:
        """Forget the least recently used, but none that is on its way: of a trace forgotten too early what came late
        could cover what is not delivered, and after a crash that would be lost (law 1). Two looks for each that comes:
        so the limit is come back to."""
        for _ in range(2):
            if len(self._kept) <= self._kept_limit:
                return
            trace_id, kept = self._kept.popitem(last=False)
            if kept.in_flight > 0:
                self._kept[trace_id] = kept
                continue
            self._evictions += 1
            if self._evicted_limit:
                if self._evicted is None:
                    self._evicted = RecentIds(self._evicted_limit)
                self._evicted.add(trace_id)

    def drop(self, trace_id: bytes) -> None:
        """Remember a decision to drop."""
        self._dropped.add(trace_id)

    def sending(
        self, trace_id: bytes, offsets: Sequence[tuple[int, int]], parked: tuple[Partition, int] | None = None
    ) -> None:
        """The fragments of these (partition, offset) of a kept trace are on their way; ``parked``: and all of this
        partition up to that offset."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            kept.send(offsets)
            if parked is not None:
                kept.parked = parked

    def delivered(self, trace_id: bytes, offsets: Sequence[tuple[int, int]]) -> None:
        """Every destination has them."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            kept.deliver(offsets)

    def settled(self, trace_id: bytes) -> None:
        """What was last said to be on its way has settled, delivered or not."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            kept.in_flight -= 1

    def recall_kept(self, trace_id: bytes) -> Kept | None:
        """What is known of a trace that was kept."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            self._kept.move_to_end(trace_id)
        return kept

    def covering(self, trace_id: bytes) -> Kept | None:
        """The same, without this counting as a use."""
        return self._kept.get(trace_id)

    def has_evicted(self, trace_id: bytes) -> bool:
        """Whether the trace was kept, and its decision had to be forgotten."""
        return self._evicted is not None and self._evicted.has(trace_id)

    def take_evictions(self) -> int:
        """How many kept traces were forgotten since the last call."""
        evictions, self._evictions = self._evictions, 0
        return evictions

    def forget_offsets(self, partition: int) -> None:
        """Remember the decisions, but no offset of this partition: the topic was made again, with others."""
        for kept in self._kept.values():
            kept.forget_offsets(partition)

    def was_dropped(self, trace_id: bytes) -> bool:
        """Whether the trace is remembered as dropped."""
        return self._dropped.has(trace_id)
