# cython: boundscheck=False, wraparound=False
"""The log of the last decisions, kept and dropped: what `GET /api/traces/ID` reads.

An entry takes 53 bytes, and 4 more for each 16 policies. The oldest entries go when the log is full.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import attrs

from tss.core.combining import WORD_VOTES, Sampler
from tss.core.decision import Decision, Reason, Verdict
from tss.core.table import key_of
from tss.core.trace import Trace

ENTRY_BYTES = 53  # without votes: the columns of a chunk and one and a half slots
WORD_BYTES = 4
CHUNK_SHARE = 16  # a chunk is this part of the log at most, because the oldest chunk goes as a whole
FEWEST, MOST = 64, 1 << 16  # entries of a chunk; to empty more would stop the daemon for more than a millisecond
DECISION_BYTES = 300
# Different ones in a chunk: there are few, unless a policy has a rate for each key.
FEWEST_DECISIONS, ENTRIES_A_DECISION = 64, 32
CHUNK_BYTES = 2_000  # objects of a chunk without its entries
ID_BYTES = 16
MOST_LATE = 0xFFFF

# Marks of an entry.
REPLAYED = 1  # judged again after a restart, from records that were settled before
ELSEWHERE = 2  # the decision is another replica's, or of an earlier process of this one
UNASKED = 4  # no policy was asked
IN_MS = 8  # the duration is in milliseconds, because it is too long for a number of microseconds
GIVEN_RANDOMNESS = 16  # a span's trace state gave the randomness that decided
RESTED = 32  # it was judged again by some of its spans, perhaps: others may have been parked
# Copies that are numbers of C where this is compiled.
_ELSEWHERE, _IN_MS, _UNASKED, _GIVEN = ELSEWHERE, IN_MS, UNASKED, GIVEN_RANDOMNESS

DROPPED_ELSEWHERE = Decision(Verdict.DROP, "", Reason.OTHER, 0.0, weighted=False)
"""The decision about a trace that another replica dropped. Redis has no more of it than that."""
NOBODY = Sampler(())
_LOW = 0xFFFFFFFF


@attrs.frozen
class Entry:
    """What the log has of one decision. Times are in seconds since 1970."""

    trace_id: bytes
    decision: Decision
    sampler: Sampler  # whose policies voted
    votes: Sequence[int]  # of its policies, in their order; empty if no policy was asked
    closed_secs: int  # in the time of the partition's records
    decided_secs: int  # by the clock of this replica
    partition: int
    duration_us: int
    spans: int
    errors: int
    bytes: int
    late_spans: int  # that came since, up to MOST_LATE
    marks: int

    @property
    def is_replayed(self) -> bool:
        """Whether it was judged again after a restart."""
        return bool(self.marks & REPLAYED)


class Chunk:
    """Entries of one sampler, in columns. Its slots find an entry by the trace id."""

    __slots__ = (
        "_bytes", "_closed", "_codes", "_decided", "_durations", "_end", "_errors", "_ids", "_last", "_last_code", "_late",
        "_marks", "_most_decisions", "_partitions", "_room", "_slots", "_spans", "_votes", "_words", "by_id", "decisions", "sampler", "used",
    )  # fmt: skip

    def __init__(self, room: int, sampler: Sampler) -> None:
        self._room = room
        self.sampler = sampler
        self._most_decisions = max(FEWEST_DECISIONS, room // ENTRIES_A_DECISION)
        self._end = room * 3 // 2  # of the slots
        self._words = len(sampler.votes)
        self.used = 0
        self.decisions: list[Decision] = []  # by code
        self.by_id: dict[int, int] = {}  # the codes by the id of the decision: equal ones are mostly one object
        self._last: Decision | None = None
        self._last_code = 0
        self._slots = array("I", bytes(4)) * self._end  # the number of an entry, from 1 on; 0: empty
        self._ids = array("B", bytes(1)) * (room * ID_BYTES)
        self._closed, self._decided, self._durations = _column("I", room), _column("I", room), _column("I", room)
        self._spans, self._errors, self._bytes = _column("I", room), _column("I", room), _column("I", room)
        self._codes, self._late, self._partitions = _column("H", room), _column("H", room), _column("H", room)
        self._marks = _column("B", room)
        self._votes = array("I", bytes(4)) * (room * max(1, self._words))

    def empty(self, sampler: Sampler) -> bool:
        """Forget all entries, for new ones of this sampler. False if its votes need other space."""
        if len(sampler.votes) != self._words:
            return False
        self.sampler, self.used = sampler, 0
        self.decisions, self.by_id, self._last = [], {}, None
        slots = self._slots
        for slot in range(self._end):
            slots[slot] = 0
        return True

    @property
    def held_bytes(self) -> int:
        """Its memory in bytes."""
        return bytes_of(self._room, self._words) + DECISION_BYTES * len(self.decisions)

    def is_full(self) -> bool:
        """Whether the next entry needs another chunk."""
        return self.used >= self._room or len(self.decisions) >= self._most_decisions

    def first_secs(self) -> int:
        """When its oldest entry was decided."""
        return self._decided[0]

    def add(self, trace: Trace, decision: Decision, now_secs: int, marks: int) -> None:
        """Add an entry. The chunk is not full, and the votes are those that its sampler counted last."""
        at = self.used
        self.used = at + 1
        trace_id = trace.trace_id
        first = at * 16
        for place in range(16):
            self._ids[first + place] = trace_id[place]
        if decision is not self._last:
            self._learn(decision)
        self._codes[at] = self._last_code
        duration = trace.duration_ns() // 1000
        if duration > _LOW:
            duration = min(duration // 1000, _LOW)
            marks = marks | _IN_MS
        self._durations[at] = duration
        closed = trace.closed_second
        self._closed[at] = min(max(closed, 0), _LOW)
        self._decided[at] = now_secs
        self._spans[at] = min(trace.spans, _LOW)
        self._errors[at] = min(trace.errors, _LOW)
        self._bytes[at] = min(trace.seen_bytes, _LOW)
        self._late[at] = 0
        self._partitions[at] = trace.home.id & 0xFFFF
        self._marks[at] = marks
        words = self._words
        to = at * words
        for place in range(words):
            self._votes[to + place] = self.sampler.votes[place]
        slot = self._slot(key_of(trace_id))
        while self._slots[slot]:
            slot += 1
            if slot == self._end:
                slot = 0
        self._slots[slot] = at + 1

    def _learn(self, decision: Decision) -> None:
        code = self.by_id.get(id(decision))
        if code is None:
            code = self.by_id[id(decision)] = len(self.decisions)
            self.decisions.append(decision)
        self._last, self._last_code = decision, code

    def _slot(self, key: int) -> int:
        return ((key >> 8) & _LOW) * self._end >> 32

    def last(self, trace_id: bytes, below: int) -> int:
        """The place of the last entry of the trace below this place; -1 if there is none."""
        slot = self._slot(key_of(trace_id))
        found = -1
        while self._slots[slot]:
            at = self._slots[slot] - 1
            if found < at < below and self._has(at, trace_id):
                found = at
            slot += 1
            if slot == self._end:
                slot = 0
        return found

    def _has(self, at: int, trace_id: bytes) -> bool:
        first = at * 16
        for place in range(16):  # noqa: SIM110  # Cython takes no generator in a method of C types
            if self._ids[first + place] != trace_id[place]:
                return False
        return True

    def add_late(self, at: int, spans: int) -> None:
        """So many late spans followed the decision."""
        self._late[at] = min(self._late[at] + spans, 0xFFFF)

    def entry(self, at: int) -> Entry:
        """The entry in this place."""
        marks = self._marks[at]
        policies = 0 if marks & UNASKED else len(self.sampler.policies)
        words = self._votes[at * self._words : (at + 1) * self._words]
        return Entry(
            trace_id=bytes(self._ids[at * ID_BYTES : (at + 1) * ID_BYTES]),
            decision=self.decisions[self._codes[at]],
            sampler=self.sampler,
            votes=[words[each // WORD_VOTES] >> (each % WORD_VOTES * 2) & 3 for each in range(policies)],
            closed_secs=self._closed[at],
            decided_secs=self._decided[at],
            partition=self._partitions[at],
            duration_us=self._durations[at] * (1000 if marks & IN_MS else 1),
            spans=self._spans[at],
            errors=self._errors[at],
            bytes=self._bytes[at],
            late_spans=self._late[at],
            marks=marks,
        )


class DecisionLog:
    """At most ``max_bytes`` of the last decisions. Late spans are counted with the decision that they follow."""

    __slots__ = ("_chunks", "_max_bytes", "_open", "now_secs")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._chunks: list[Chunk] = []  # the oldest first
        self._open: list[Chunk] = []  # those that get entries: one for each sampler
        self.now_secs = 0  # the clock of this replica; whoever decides a batch sets it

    def __repr__(self) -> str:
        return f"<DecisionLog {len(self)} of {self.held_bytes} bytes>"

    def __len__(self) -> int:
        return sum([chunk.used for chunk in self._chunks])

    @property
    def held_bytes(self) -> int:
        """Its memory in bytes."""
        return sum([chunk.held_bytes for chunk in self._chunks])

    def since_secs(self) -> int:
        """When the oldest decision was made that it still has, in seconds since 1970; 0 if it is empty."""
        return self._chunks[0].first_secs() if self._chunks else 0

    def reach_secs(self, now_secs: float) -> float:
        """How far back it reaches."""
        since = self.since_secs()
        return max(0.0, now_secs - since) if since else 0.0

    def add(self, trace: Trace, decision: Decision, sampler: Sampler, marks: int = 0) -> None:
        """A closed trace was decided. Unless it is marked as UNASKED, it was the last trace that this sampler decided."""
        if len(trace.trace_id) != 16:
            return
        if not marks & _UNASKED and sampler.given_randomness(trace) >= 0:
            marks = marks | _GIVEN
        self._chunk_of(sampler).add(trace, decision, self.now_secs, marks)

    def follow(self, trace: Trace, decision: Decision = DROPPED_ELSEWHERE) -> None:
        """A closed trace follows the decision of another replica. Why a trace was dropped, this replica does not know."""
        if len(trace.trace_id) == 16:
            count = len(self._open)  # compiled code does not take negative indexes
            sampler = self._open[count - 1].sampler if count else NOBODY
            self._chunk_of(sampler).add(trace, decision, self.now_secs, _UNASKED | _ELSEWHERE)

    def late(self, trace_id: bytes, spans: int) -> None:
        """Late spans of a trace follow its decision."""
        if len(trace_id) != 16:
            return
        for number in range(len(self._chunks) - 1, -1, -1):
            chunk = self._chunks[number]
            at = chunk.last(trace_id, chunk.used)
            if at >= 0:
                chunk.add_late(at, spans)
                return

    def find(self, trace_id: bytes) -> list[Entry]:
        """All entries of a trace, the newest first. It has several if it was judged again, or if its id was used again."""
        found: list[Entry] = []
        if len(trace_id) != ID_BYTES:
            return found
        for chunk in reversed(self._chunks):
            at = chunk.last(trace_id, chunk.used)
            while at >= 0:
                found.append(chunk.entry(at))
                at = chunk.last(trace_id, at)
        return sorted(found, key=lambda each: -each.decided_secs)

    def _chunk_of(self, sampler: Sampler) -> Chunk:
        """The chunk with room for an entry of this sampler."""
        for chunk in self._open:
            if chunk.sampler is sampler:
                if not chunk.is_full():
                    return chunk
                self._open.remove(chunk)
                break
        chunk = self._fresh(sampler)
        self._chunks.append(chunk)
        self._open.append(chunk)
        return chunk

    def _fresh(self, sampler: Sampler) -> Chunk:
        """An empty chunk. The oldest chunks make room for it, and one of them may be used again."""
        words = len(sampler.votes)
        most = self._max_bytes // CHUNK_SHARE // (ENTRY_BYTES + WORD_BYTES * words)
        room = max(FEWEST, min(MOST, most))
        needed = bytes_of(room, words)
        while self._chunks and self.held_bytes + needed > self._max_bytes:
            oldest = self._chunks.pop(0)
            if oldest in self._open:
                self._open.remove(oldest)
            if oldest.empty(sampler):
                return oldest
        return Chunk(room, sampler)


def bytes_of(room: int, words: int) -> int:
    """The memory of a chunk in bytes, without its decisions."""
    return CHUNK_BYTES + room * (ENTRY_BYTES + WORD_BYTES * max(1, words))


def _column(kind: str, room: int) -> array[int]:
    made = array(kind, [0])
    return made * room
