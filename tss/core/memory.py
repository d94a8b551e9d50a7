"""The decision memory: decisions about closed traces, which every late or repeated span follows (law 2)."""

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

# Measured with tracemalloc; tests/core/test_memory.py checks it.
KEPT_BYTES = 650  # the object, its id, its entry in the dict, one partition that it covers
FEWEST_CLOSED = 10_000  # the least that is remembered, however small the limit: 300 kB
FEWEST_KEPT = 1_000


class Kept:
    """A kept trace: its decision, and which of its fragments every destination has.

    ``covered`` has the highest delivered offset for each partition. Deliveries overtake each other, so ``outstanding`` has
    each (partition, offset) that is under way: it is not delivered, although a higher offset may be.
    """

    __slots__ = ("covered", "decision", "first", "in_flight", "outstanding", "parked", "rv")

    def __init__(self, decision: Decision, first: tuple[int, int], rv: int = -1) -> None:
        self.decision = decision
        self.first = first  # its home partition, and the offset of its first record there
        self.rv = rv  # the randomness that decided, if a span of the trace brought it (`ot=rv`); else -1
        self.covered: dict[int, int] = {}
        # No set for most kept traces: they are delivered, and a set takes 216 bytes.
        self.outstanding: set[tuple[int, int]] | None = None
        self.in_flight = 0  # how many sendings of it have not settled yet
        # All fragments of this partition up to this offset were parked, and are under way.
        self.parked: tuple[Partition, int] | None = None

    def __repr__(self) -> str:
        return f"<Kept {self.decision}, covers {self.covered}, outstanding {self.outstanding}>"

    def has_delivered(self, partition: int, offset: int) -> bool:
        """Whether every destination has the fragment at this offset, which was read again."""
        if offset > self.covered.get(partition, -1):
            return False
        return self.outstanding is None or (partition, offset) not in self.outstanding

    def has_delivered_up_to(self, partition: int, offset: int) -> bool:
        """Whether every destination has all fragments up to this offset."""
        if offset > self.covered.get(partition, -1):
            return False
        for id, place in self.outstanding or ():  # noqa: SIM110  # Cython takes no generator in a method of C types
            if id == partition and place <= offset:
                return False
        return True

    def sends_parked(self, partition: Partition, offset: int) -> bool:
        """Whether a fragment that was read again was parked and is under way now. False if the partition was assigned anew
        since: then that sending was given up."""
        return self.parked is not None and self.parked[0] is partition and offset <= self.parked[1]

    def send(self, offsets: Sequence[tuple[int, int]]) -> None:
        """The fragments at these places are under way to the destinations."""
        self.in_flight += 1
        if self.outstanding is None:
            self.outstanding = set(offsets)
        else:
            self.outstanding.update(offsets)

    def deliver(self, offsets: Sequence[tuple[int, int]]) -> None:
        """Every destination has the fragments at these places."""
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
        """Forget the offsets of this partition: the topic was deleted, and they are of the old topic."""
        self.covered.pop(partition, None)
        if self.outstanding is not None:
            self.outstanding = {place for place in self.outstanding if place[0] != partition} or None


class RecentIds:
    """Remembers at least the last ``limit`` trace ids, and at most twice as many, in two tables.

    When the new table has ``limit`` entries, it replaces the old one.
    """

    __slots__ = ("_limit", "_new", "_old")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._new, self._old = Table(), Table()

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    @property
    def held_bytes(self) -> int:
        """The memory of the tables in bytes."""
        return self._new.held_bytes + self._old.held_bytes

    def add(self, trace_id: bytes) -> None:
        """Remember this id."""
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
    """The decision memory of this replica.

    It has the decisions about the last ``closed_limit`` closed traces, of ``secs`` of stream time. They are forgotten in
    the order in which the traces closed (see ``Verdicts``).

    It also has the delivered offsets of the ``kept_limit`` kept traces that were used most recently. Those depend on how
    fast the destinations are, so no decision depends on them.

    With ``evicted_limit`` it remembers, in compact form, the ids of kept traces whose offsets were evicted: Redis has to
    be asked about these.
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
        """A memory of at most ``max_bytes``, half of them for verdicts. ``shared``: Redis can be asked about evicted traces."""
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
        """How many other closed traces are remembered, approximately."""
        return max(0, len(self._verdicts) - len(self._kept))

    @property
    def held_bytes(self) -> int:
        """Its memory in bytes, without fragments under way: whoever holds them counts them."""
        return KEPT_BYTES * len(self._kept) + self._verdicts.held_bytes + self._evicted.held_bytes

    # -- stream time and closings

    def turn(self, partition: int, now_ms: int) -> int:
        """The partition's stream time is now ``now_ms``. Returns the number of the first closing remembered for it."""
        return self._verdicts.turn(partition, now_ms)

    def leave(self, partition: int) -> None:
        """The partition was revoked."""
        self._verdicts.leave(partition)

    def reach_secs(self, partition: int, now_ms: int) -> float:
        """For how many seconds of the partition's stream time decisions are remembered."""
        return self._verdicts.reach_secs(partition, now_ms)

    def is_cut(self, partition: int) -> bool:
        """Whether closings of a partition were forgotten early, because more closed than fit."""
        return self._verdicts.is_cut(partition)

    def closed(self, trace_id: bytes) -> int:
        """A trace has closed: late spans follow its decision. Returns the number of the closing."""
        return self._verdicts.close(trace_id)

    def look(self, trace_id: bytes, floor: int) -> int:
        """UNKNOWN, UNDECIDED, DROPPED, or (from KEPT on) the number of a decision. Closings below ``floor`` count as unknown."""
        return self._verdicts.look(trace_id, floor)

    # -- decisions

    def keep(self, trace_id: bytes, decision: Decision, first: tuple[int, int], number: int = -1, rv: int = -1) -> None:
        """Remember the decision to keep the trace that closed with this number (-1: it closes now). None of its fragments
        counts as delivered yet. ``rv`` is the randomness that a span of the trace brought.

        An earlier trace with the same id may still be under way. Then one entry stands for both.
        """
        counts = self._decide(trace_id, number, self._verdicts.code_of(decision))
        kept = self._kept.get(trace_id)
        if kept is None:
            self._add(trace_id, Kept(decision, first, rv))
        elif counts:
            kept.decision, kept.first, kept.rv = decision, first, rv

    def learn(self, trace_id: bytes, kept: Kept, number: int = -1) -> Kept:
        """Remember a decision of another replica. Returns the entry that counts from now on: our own entry if there was one."""
        known = self._kept.get(trace_id)
        if known is None:
            known = kept
            self._add(trace_id, kept)
        self._decide(trace_id, number, self._verdicts.code_of(known.decision))
        return known

    def drop(self, trace_id: bytes, number: int = -1) -> None:
        """Remember the decision to drop the trace that closed with this number (-1: it closes now)."""
        self._decide(trace_id, number, DROPPED)

    def _decide(self, trace_id: bytes, number: int, code: int) -> bool:
        return self._verdicts.decide(trace_id, self._verdicts.close(trace_id) if number < 0 else number, code)

    def _add(self, trace_id: bytes, kept: Kept) -> None:
        self._kept[trace_id] = kept
        if len(self._kept) > self._kept_limit:
            self._evict()

    def _evict(self) -> None:
        """Evict the least recently used entries, except those that are under way.

        If such an entry were evicted, a late span could make a higher offset count as delivered, and a crash would lose the
        undelivered fragments below (law 1). Each new entry checks two old ones, so the size returns to its limit.
        """
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

    # -- delivery

    def sending(
        self, trace_id: bytes, offsets: Sequence[tuple[int, int]], parked: tuple[Partition, int] | None = None
    ) -> None:
        """The fragments at these (partition, offset) of a kept trace are under way, and with ``parked`` all its fragments
        of that partition up to that offset."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            kept.send(offsets)
            if parked is not None:
                kept.parked = parked

    def delivered(self, trace_id: bytes, offsets: Sequence[tuple[int, int]]) -> None:
        """Every destination has the fragments of the trace at these (partition, offset)."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            kept.deliver(offsets)

    def settled(self, trace_id: bytes) -> None:
        """One sending of the trace has settled, delivered or not."""
        kept = self._kept.get(trace_id)
        if kept is not None:
            kept.in_flight -= 1

    # -- looking back

    def recall_kept(self, trace_id: bytes, floor: int = 0, place: tuple[int, int] = (-1, -1)) -> Kept | None:
        """The entry of a kept trace; None if it is not known as kept. If only the decision is left, a new entry is made with
        it, whose first record is at ``place``."""
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
        """The entry of a kept trace, if there is one. This does not count as a use."""
        return self._kept.get(trace_id)

    def has_evicted(self, trace_id: bytes) -> bool:
        """Whether a trace with this id was kept before, and its entry may have been evicted."""
        return self._evicted_limit > 0 and (trace_id in self._kept or self._evicted.has(trace_id))

    def take_evictions(self) -> int:
        """How many entries of kept traces were evicted since the last call."""
        evictions, self._evictions = self._evictions, 0
        return evictions

    def forget_offsets(self, partition: int) -> None:
        """Forget the offsets of this partition, not the decisions: the topic was deleted and created again."""
        for kept in self._kept.values():
            kept.forget_offsets(partition)

    def was_dropped(self, trace_id: bytes, floor: int = 0) -> bool:
        """Whether the trace is remembered as dropped."""
        return self.look(trace_id, floor) == DROPPED
