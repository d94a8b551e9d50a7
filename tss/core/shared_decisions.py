"""Decisions that replicas share through Redis: which closed traces to ask Redis about, and how a decision is written.

Another replica, or an earlier process of this one, may have decided about a trace before its partition came here. Asking
costs a call, so each batch asks only for the traces that another could have decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

from tss.core.decision import Decision, Reason, Verdict
from tss.core.memory import Kept, Memory
from tss.core.partition import Partition
from tss.core.policies.probability import SPACE
from tss.core.streamtime import NO_TIME
from tss.core.trace import Trace

VERSION = 1
# A span's start is from the clock of its own host, and the span takes a while to reach the topic.
CLOCKS_MS = 60_000
# How far the clock of a span's host may be ahead of the clock that gave the record its timestamp.
AHEAD_MS = 10_000
MOST = 1 << 63  # Kafka's offsets are signed 64-bit numbers
# A place that no record has. Among the undelivered places it says that the decision is not weighted. The version before
# compares it with real places only, and writes it again; an element more in the decision would make it refuse the whole.
UNWEIGHTED = (-1, -1)
# Likewise a place of this partition has as its offset the randomness that a span of the trace brought (`ot=rv`).
RANDOMNESS = -2
# And one of this partition the number of the real reason. The version before would refuse a decision with a reason that it
# does not know, and decide anew (law 2). So the reason that is written is one that it knows.
REASON = -3
# And one of each of these the upper and the lower half of the fingerprint of the ruleset that decided.
RULESET = (-4, -5)
_REASONS = (Reason.DECISION_WAIT, Reason.ROOT_WAIT)  # by number
_KNOWN_BEFORE = {Reason.DECISION_WAIT: Reason.MAX_DURATION, Reason.ROOT_WAIT: Reason.ROOT_QUIET}
NOTHING = 0  # the reach of a partition without shared decisions: they are about offsets below their reach

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


def unknown_here(batch: list[Trace], memory: Memory, ttl_ms: int) -> list[Trace]:
    """The closed traces that Redis has to be asked about. Most batches have none, so this loop is all that they cost."""
    asked: list[Trace] = []
    for trace in batch:
        if trace.decision is None:
            if could_be_known(trace, memory, ttl_ms):
                asked.append(trace)
        elif (
            trace.first_offset < trace.home.horizon and trace.parked_to < 0
        ):  # parked: Redis was asked when the trace closed
            # A late span of a trace that this replica kept in an earlier assignment. An owner in between may have delivered it.
            asked.append(trace)
    return asked


def could_be_known(trace: Trace, memory: Memory, ttl_ms: int) -> bool:
    """Whether another replica may have decided about a closed trace, or this replica and has forgotten it.

    There are three cases. A record of the trace was in the topic, or parked, before its partition was assigned here. This
    replica kept the trace and evicted it from its memory. Or the trace looks like the rest of an earlier trace: it is not
    complete, or began before the assignment. The last case counts as long as decisions are remembered, ``ttl_ms`` of
    stream time.
    """
    if memory.has_evicted(trace.trace_id):
        return True
    if _may_be_a_rest(trace, ttl_ms):
        return True
    if trace.further is not None:
        for home, first_offset in trace.begins():
            if first_offset < home.horizon:
                return True
    return False


def _may_be_a_rest(trace: Trace, ttl_ms: int) -> bool:
    home = trace.home
    since_ms = home.horizon_ms
    if trace.taken_over or trace.first_offset < home.horizon or since_ms == NO_TIME:
        return True
    if trace.closed_ms - since_ms >= ttl_ms:
        return False
    return not trace.is_complete() or trace.start_ns // 1_000_000 < since_ms - CLOCKS_MS


def homes_of(traces: list[Trace]) -> set[Partition]:
    """The partitions that have records of these traces."""
    return {home for trace in traces for home, _ in trace.begins()}


def within_reach(
    asked: list[Trace], reaches: dict[Partition, int], memory: Memory
) -> tuple[list[Trace], list[Trace], dict[int, int]]:
    """The asked traces that a shared decision can be about. ``reaches`` has, for each of their partitions, the offset below
    which the records of the shared decisions lie.

    A complete trace is within reach if it has a record below that offset. If all its records are above, it is within reach
    only if it began before the records below were written, because then it may be the rest of an earlier trace.

    Returns three values: the traces that any decision may be about; the complete traces within reach; and for each
    partition the offset that a decision about one of the latter must reach beyond.
    """
    bounds = {
        home: (reach, home.replay.time_at(reach) + AHEAD_MS) for home, reach in reaches.items() if reach != NOTHING
    }
    anywhere: list[Trace] = []
    whole: list[Trace] = []
    for trace in asked:
        if not trace.is_complete() or memory.has_evicted(trace.trace_id):
            anywhere.append(trace)
        elif _may_be_reached(trace, bounds):
            whole.append(trace)
    return anywhere, whole, _from_offsets(whole)


def _may_be_reached(trace: Trace, bounds: dict[Partition, tuple[int, int]]) -> bool:
    began_ms = trace.start_ns // 1_000_000
    for home, first_offset in trace.begins():
        bound = bounds.get(home)
        if bound is not None and (first_offset < bound[0] or began_ms < bound[1]):
            return True
    return False


def _from_offsets(whole: list[Trace]) -> dict[int, int]:
    """For each partition: the lowest offset at which any of these traces can have a record. Records below it were written
    before the first of the traces began."""
    lowest: dict[Partition, int] = {}
    began_ms = min([trace.start_ns for trace in whole], default=0) // 1_000_000 - AHEAD_MS
    for trace in whole:
        for home, first_offset in trace.begins():
            lowest[home] = min(lowest.get(home, first_offset), first_offset)
    return {home.id: min(offset, home.replay.offset_at(began_ms)) for home, offset in lowest.items()}


def reach_of(places: Iterable[tuple[int, int]]) -> dict[int, int]:
    """For each partition: the offset after the last of these (partition, offset) places."""
    reach: dict[int, int] = {}
    for partition, offset in places:
        if offset >= reach.get(partition, NOTHING):
            reach[partition] = offset + 1
    return reach


def to_bytes(kept: Kept, mark: int = 0) -> bytes:
    """The decision about a kept trace and its delivered offsets: JSON without spaces, some 90 bytes.

    ``[version, [policy, reason, rate, destinations], home partition, first offset, [[partition, highest offset], ...],
    [[partition, offset not delivered], ...]]``. The topic's ``mark`` (see `mark_of`) is written as one more
    partition, with offset 0. Older versions ignore it, because they have no such partition. Among the offsets
    that are not delivered are also the places that `_told` makes.
    """
    places = [*kept.covered.items(), (mark, 0)] if mark else kept.covered.items()
    covered = b",".join([b"[%d,%d]" % place for place in places])
    told, waiting = _told(kept), kept.outstanding or set()
    if told:
        waiting = {*waiting, *told}
    outstanding = b",".join([b"[%d,%d]" % place for place in sorted(waiting)]) if waiting else b""
    return b"[%d,%b,%d,%d,[%b],[%b]]" % (VERSION, _head(kept.decision), *kept.first, covered, outstanding)


@lru_cache(maxsize=1000)  # a policy with a rate for each key makes many decisions; the other policies make few
def _head(decision: Decision) -> bytes:
    reason = _KNOWN_BEFORE.get(decision.reason, decision.reason)
    return _ENCODE([decision.policy, reason.value, decision.rate, decision.destinations]).encode()


def _told(kept: Kept) -> list[tuple[int, int]]:
    """What else there is to say about the decision, as places that no record has."""
    told = [] if kept.decision.weighted else [UNWEIGHTED]
    if kept.rv >= 0:
        told.append((RANDOMNESS, kept.rv))
    if kept.decision.reason in _REASONS:
        told.append((REASON, _REASONS.index(kept.decision.reason)))
    if len(kept.decision.ruleset) == 16:
        told += _halves(kept.decision.ruleset)
    return told


@lru_cache(maxsize=100)
def _halves(fingerprint: str) -> list[tuple[int, int]]:
    try:
        return [(RULESET[0], int(fingerprint[:8], 16)), (RULESET[1], int(fingerprint[8:], 16))]
    except ValueError:
        return []  # of a test


def _ruleset(waiting: set[tuple[int, int]]) -> str:
    halves = [max([at for id, at in waiting if id == half and at < 1 << 32], default=-1) for half in RULESET]
    return "".join([f"{half:08x}" for half in halves]) if min(halves) >= 0 else ""


@lru_cache(maxsize=100)
def mark_of(topic: str) -> int:
    """A number for a topic's id that no partition can have; 0 if the id is unknown."""
    return -(1 << 32 | crc32(topic.encode())) if topic else 0


def from_bytes(value: bytes, mark: int = 0) -> Kept | None:
    """The decision in these bytes; None if another version wrote them, or if they are invalid.

    If they have the mark of another topic, the topic was deleted and created again: then the offsets are left out.
    """
    try:
        version, *known = json.loads(value)
        return _of_topic(_kept(known), mark) if version == VERSION else None
    except (ValueError, TypeError, IndexError, OverflowError, RecursionError):
        return None


def _of_topic(kept: Kept, mark: int) -> Kept:
    marks = {id for id in kept.covered if id < 0}
    if mark and marks and marks != {mark}:
        kept.covered, kept.outstanding = {}, None
    for each in marks:
        kept.covered.pop(each, None)
    return kept


def _kept(known: list[object]) -> Kept:
    match known:
        case [
            [str(policy), str(reason), int() | float() as rate, names],
            int(home),
            int(first),
            list(covered),
            list(out),
        ]:
            if not (0 <= rate <= 1 and _is_offset(home) and _is_offset(first)):
                raise ValueError
            waiting = {_place(each) for each in out}
            rv = max([at for id, at in waiting if id == RANDOMNESS and at < SPACE], default=-1)
            real = [_REASONS[at] for id, at in waiting if id == REASON and 0 <= at < len(_REASONS)]
            why, weighted = real[0] if real else Reason.stored(reason), UNWEIGHTED not in waiting
            by = _ruleset(waiting)
            decision = Decision(Verdict.KEEP, policy, why, float(rate), _names(names), weighted, by)
            kept = Kept(decision, (home, first), rv)
            kept.covered = dict(_place(each) for each in covered)
            kept.outstanding = waiting.difference(_told(kept)) or None
            return kept
    raise ValueError


def _names(names: object) -> tuple[str, ...] | None:
    match names:
        case None:
            return None
        case list() if all(isinstance(name, str) for name in names):
            return tuple(names)
    raise ValueError


def _place(pair: object) -> tuple[int, int]:
    match pair:
        case [int(partition), int(offset)] if abs(partition) < MOST and -1 <= offset < MOST:
            return partition, offset
    raise ValueError


def _is_offset(number: int) -> bool:
    """Whether Kafka can have this number as an offset or a partition."""
    return 0 <= number < MOST
