"""What was decided of traces that are gone: every late or repeated span follows it (law 2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from tss.core.decision import Decision
from tss.core.table import NOTHING, Table, key_of
from tss.core.verdicts import DROPPED, KEPT, TRACE_BYTES, UNDECIDED, UNKNOWN, Verdicts

if TYPE_CHECKING:
    from tss.core.partition import Partition

__all__ = ["DROPPED", "KEPT", "UNDECIDED", "UNKNOWN", "Kept", "Memory"]

# Measured with tracemalloc (tests/core/test_memory.py holds them to it).
KEPT_BYTES = 650  # the object, its id, its place in the dict, one partition that it covers
FEWEST_CLOSED = 10_000  # remembered however small the limit is: 300 kB
FEWEST_KEPT = 1_000


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
    """Remembers at least the last ``limit`` trace ids, and at most twice as many, in two tables.

    When the new table has ``limit`` entries the old one is forgotten.
    """

    __slots__ = ("_limit", "_new", "_old")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._new, self._old = Table(), Table()

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    @property
    def held_bytes(self) -> int:
        """Memory taken by the tables."""
        return self._new.held_bytes + self._old.held_bytes

    def add(self, trace_id: bytes) -> None:
        """Remember it."""
        self._new.put(key_of(trace_id), 0, 0)
        if len(self._new) >= self._limit:
            self._old, self._new = self._new, Table()

    def __contains__(self, trace_id: bytes) -> bool:
        return self.has(trace_id)

    def has(self, trace_id: bytes) -> bool:
        """The same as ``in``."""
        key = key_of(trace_id)
        return self._new.get(key) != NOTHING or self._old.get(key) != NOTHING


class Memory:
    """The local decision memory.

    The verdicts of the last ``closed_limit`` closings, of ``secs`` of stream time, are forgotten in the log's order
    (see ``Verdicts``). Beside them stands what was delivered of kept traces: of the ``kept_limit`` that were used most
    recently. That depends on destinations, so no verdict does on it.

    With ``evicted_limit`` the ids of kept traces of which that had to be forgotten stay, in a compact form, for they
    say what is worth asking elsewhere.
    """

    __slots__ = ("_evicted", "_evicted_limit", "_evictions", "_kept", "_kept_limit", "_verdicts")

    def __init__(
        self, kept_limit: int = 50_000, closed_limit: int = 500_000, evicted_limit: int = 0, secs: float = 600
    ) -> None:
        self._kept_limit = kept_limit
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._verdicts = Verdicts(closed_limit, secs)
        self._evicted_limit = evicted_limit
        self._evicted = RecentIds(evicted_limit)
        self._evictions = 0

    @classmethod
    def within(cls, max_bytes: int, secs: float, *, shared: bool = False) -> Self:
        """As much as fits into these bytes: half of them for verdicts."""
        ids = max_bytes // 8 if shared else 0
        closed = max(FEWEST_CLOSED, max_bytes // 2 // TRACE_BYTES)
        kept = max(FEWEST_KEPT, (max_bytes // 2 - ids) // KEPT_BYTES)
        return cls(kept, closed, max(FEWEST_KEPT, ids // (2 * TRACE_BYTES)) if shared else 0, secs)

    def __repr__(self) -> str:
        return f"<Memory {self.kept} kept, {self.dropped} dropped>"

    @property
    def kept(self) -> int:
        """How many kept traces are remembered."""
        return len(self._kept)

    @property
    def dropped(self) -> int:
        """How many other closed traces are remembered, about."""
        return max(0, len(self._verdicts) - len(self._kept))

    @property
    def held_bytes(self) -> int:
        """Memory taken; what is on its way counts where it is held."""
        return KEPT_BYTES * len(self._kept) + self._verdicts.held_bytes + self._evicted.held_bytes

    # -- the log

    def turn(self, partition: int, now_ms: int) -> int:
        """A partition's stream time has come here; returns from which closing on it is remembered for it."""
        return self._verdicts.turn(partition, now_ms)

    def leave(self, partition: int) -> None:
        """The partition is another's now."""
        self._verdicts.leave(partition)

    def reach_secs(self, partition: int, now_ms: int) -> float:
        """How much of a partition's stream time is remembered."""
        return self._verdicts.reach_secs(partition, now_ms)

    def is_cut(self, partition: int) -> bool:
        """Whether closings of a partition were forgotten before their time, as there were more than fit."""
        return self._verdicts.is_cut(partition)

    def closed(self, trace_id: bytes) -> int:
        """A trace has closed, and what comes later of it follows its decision; returns the number of the closing."""
        return self._verdicts.close(trace_id)

    def look(self, trace_id: bytes, floor: int) -> int:
        """UNKNOWN, UNDECIDED, DROPPED, or from KEPT on: which decision; of closings from ``floor`` on."""
        return self._verdicts.look(trace_id, floor)

    # -- decisions

    def keep(self, trace_id: bytes, decision: Decision, first: tuple[int, int], number: int = -1) -> None:
        """Remember the decision to keep what closed with this number (-1: it closes now); nothing of the trace counts
        as delivered yet.

        A trace before it that had the same id may still be on its way: then both are known as one.
        """
        counts = self._decide(trace_id, number, self._verdicts.code_of(decision))
        kept = self._kept.get(trace_id)
        if kept is None:
            self._add(trace_id, Kept(decision, first))
        elif counts:
            kept.decision, kept.first = decision, first

    def learn(self, trace_id: bytes, kept: Kept, number: int = -1) -> Kept:
        """Remember what was decided elsewhere; returns what is remembered now, which is our own where we have it."""
        known = self._kept.get(trace_id)
        if known is None:
            known = kept
            self._add(trace_id, kept)
        self._decide(trace_id, number, self._verdicts.code_of(known.decision))
        return known

    def drop(self, trace_id: bytes, number: int = -1) -> None:
        """Remember the decision to drop what closed with this number."""
        self._decide(trace_id, number, DROPPED)

    def _decide(self, trace_id: bytes, number: int, code: int) -> bool:
        return self._verdicts.decide(trace_id, self._verdicts.close(trace_id) if number < 0 else number, code)

    def _add(self, trace_id: bytes, kept: Kept) -> None:
        self._kept[trace_id] = kept
        if len(self._kept) > self._kept_limit:
            self._evict()

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
                self._evicted.add(trace_id)

    # -- on the way

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

    # -- looking back

    def recall_kept(self, trace_id: bytes, floor: int = 0, place: tuple[int, int] = (-1, -1)) -> Kept | None:
        """What is known of a trace that was kept. Where only the decision is left, that alone is known from now on, and
        that the trace is met at this place."""
        code = self.look(trace_id, floor)
        if code < KEPT:
            return None
        kept = self._kept.get(trace_id)
        if kept is None:
            kept = Kept(self._verdicts.decision_of(code), place)
            self._add(trace_id, kept)
        else:
            self._kept.move_to_end(trace_id)
        return kept

    def covering(self, trace_id: bytes) -> Kept | None:
        """What was delivered of it, if that is known, without this counting as a use."""
        return self._kept.get(trace_id)

    def has_evicted(self, trace_id: bytes) -> bool:
        """Whether an undecided trace was kept before, and that had to be forgotten."""
        return self._evicted_limit > 0 and (trace_id in self._kept or self._evicted.has(trace_id))

    def take_evictions(self) -> int:
        """Of how many kept traces it was forgotten what is delivered, since the last call."""
        evictions, self._evictions = self._evictions, 0
        return evictions

    def forget_offsets(self, partition: int) -> None:
        """Remember the decisions, but no offset of this partition: the topic was made again, with others."""
        for kept in self._kept.values():
            kept.forget_offsets(partition)

    def was_dropped(self, trace_id: bytes, floor: int = 0) -> bool:
        """Whether the trace is remembered as dropped."""
        return self.look(trace_id, floor) == DROPPED
