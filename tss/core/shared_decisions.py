"""What another replica, or an earlier life of this one, may have decided: which traces to ask for, and in which form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

from tss.core.decision import Decision, Reason, Verdict
from tss.core.memory import Kept, Memory
from tss.core.partition import Partition
from tss.core.streamtime import NO_TIME
from tss.core.trace import Trace

VERSION = 1
# Spans name their start by their own host's clock, and take a while to reach the log.
CLOCKS_MS = 60_000
# By which the clock of a host that says when a span began may be ahead of the one that gave the record its time.
AHEAD_MS = 10_000
MOST = 1 << 63  # Kafka's numbers have 64 bits, with a sign
NOTHING = 0  # as far as the decisions reach of a partition that there are none of

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


def unknown_here(batch: list[Trace], memory: Memory, ttl_ms: int) -> list[Trace]:
    """Those of the closed traces that are worth asking for. Most batches have none, so this is what each one pays."""
    asked: list[Trace] = []
    for trace in batch:
        if trace.decision is None:
            if could_be_known(trace, memory, ttl_ms):
                asked.append(trace)
        elif trace.first_offset < trace.home.horizon and trace.parked_to < 0:  # else it was asked for when it closed
            # Late, of a trace that was kept here when the partition was ours before: an owner between may have sent it.
            asked.append(trace)
    return asked


def could_be_known(trace: Trace, memory: Memory, ttl_ms: int) -> bool:
    """Whether a closed trace may have been decided where this replica does not remember it.

    That is so when a record of it was in the log, or parked, before its partition became ours, when it was kept and had to be
    forgotten here, and, as long as decisions are remembered (``ttl_ms`` of stream time), when it looks like the rest of
    a trace that was there before: it is not whole, or began earlier.
    """
    if memory.has_evicted(trace.trace_id):
        return True
    if _may_be_a_rest(trace, ttl_ms):
        return True
    for branch in trace.branches or ():  # noqa: SIM110  # Cython takes no generator in a function of C types
        if branch.first_offset < branch.home.horizon:
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
    """The partitions that they have records on."""
    return {trace.home for trace in traces} | {branch.home for trace in traces for branch in trace.branches or ()}


def within_reach(
    asked: list[Trace], reaches: dict[Partition, int], memory: Memory
) -> tuple[list[Trace], list[Trace], dict[int, int]]:
    """Those of the traces asked for that what others decided can be about; ``reaches`` says of all their homes how far that goes.

    A decision is about records below its reach. So a whole trace of which a record is here that lies below may be one
    of those; one whose records all lie above is only if it began before what lies below had come, and this is its rest.

    Returns those of which nothing more is known, then those that can only be found in what reaches further than to
    certain offsets, and these by partition.
    """
    bounds = {home: (reach, home.time_at(reach) + AHEAD_MS) for home, reach in reaches.items() if reach != NOTHING}
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
    for each in (trace, *(trace.branches or ())):
        bound = bounds.get(each.home)
        if bound is not None and (each.first_offset < bound[0] or began_ms < bound[1]):
            return True
    return False


def _from_offsets(whole: list[Trace]) -> dict[int, int]:
    """By partition an offset below which nothing is of any of these: all below had come before the first of them began."""
    lowest: dict[Partition, int] = {}
    began_ms = min([trace.start_ns for trace in whole], default=0) // 1_000_000 - AHEAD_MS
    for trace in whole:
        for each in (trace, *(trace.branches or ())):
            lowest[each.home] = min(lowest.get(each.home, each.first_offset), each.first_offset)
    return {home.id: min(offset, home.offset_at(began_ms)) for home, offset in lowest.items()}


def reach_of(places: Iterable[tuple[int, int]]) -> dict[int, int]:
    """By partition the offset after the last of these records."""
    reach: dict[int, int] = {}
    for partition, offset in places:
        if offset >= reach.get(partition, NOTHING):
            reach[partition] = offset + 1
    return reach


def to_bytes(kept: Kept, mark: int = 0) -> bytes:
    """A kept trace's decision and what of it has been delivered: JSON without spaces, some 90 bytes.

    ``[version, [policy, reason, rate, destinations], home partition, first offset, [[partition, highest offset], ...],
    [[partition, offset not delivered], ...]]``. The topic's ``mark`` (see `mark_of`) stands among the partitions, with
    offset 0: a version that does not know it looks for no such partition.
    """
    places = [*kept.covered.items(), (mark, 0)] if mark else kept.covered.items()
    covered = b",".join([b"[%d,%d]" % place for place in places])
    outstanding = b",".join([b"[%d,%d]" % place for place in sorted(kept.outstanding)]) if kept.outstanding else b""
    return b"[%d,%b,%d,%d,[%b],[%b]]" % (VERSION, _head(kept.decision), *kept.first, covered, outstanding)


@lru_cache(maxsize=1000)  # a policy that names a rate of its own for each key has many; the rest has a few
def _head(decision: Decision) -> bytes:
    return _ENCODE([decision.policy, decision.reason.value, decision.rate, decision.destinations]).encode()


@lru_cache(maxsize=100)
def mark_of(topic: str) -> int:
    """A number for a topic's id that can stand among partitions, and is none of them; 0 where the id is not known."""
    return -(1 << 32 | crc32(topic.encode())) if topic else 0


def from_bytes(value: bytes, mark: int = 0) -> Kept | None:
    """What ``to_bytes`` was given; None when it is of another version, or nothing that it could have made.

    Without the offsets when they are of a topic with another mark: it was deleted, and made again.
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
            kept = Kept(Decision(Verdict.KEEP, policy, Reason(reason), float(rate), _names(names)), (home, first))
            kept.covered = dict(_place(each) for each in covered)
            kept.outstanding = {_place(each) for each in out} or None
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
    """Or a partition: whatever Kafka can have."""
    return 0 <= number < MOST
