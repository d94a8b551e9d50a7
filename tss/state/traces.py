"""What this replica knows of one trace: for `GET /api/traces/ID`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from tss.core.buffer import Buffer
from tss.core.decision import Reason
from tss.core.decision_log import RESTED, Entry
from tss.core.partition import Partition
from tss.core.reasons import document, when
from tss.core.trace import Trace


class TraceLookup:
    """Looks a trace up among the open ones and in the log of the last decisions."""

    def __init__(self, replica: str, clock: Callable[[], float] = time.time) -> None:
        self._replica = replica
        self._clock = clock
        self._buffer: Buffer | None = None
        self._partitions: Iterable[Partition] = ()

    def begin(self, buffer: Buffer, partitions: Iterable[Partition]) -> None:
        """The selection starts. ``partitions`` are those that are assigned."""
        self._buffer, self._partitions = buffer, partitions

    def look(self, trace_id: bytes) -> dict[str, object]:
        """The answer, as docs/why.md describes it. ``state``: `decided`, `open` (not decided yet) or `unknown`."""
        now, buffer = self._clock(), self._buffer
        found: dict[str, object] = {"traceId": trace_id.hex(), "replica": self._replica, "asOf": when(now)}
        if buffer is None:
            return found | {"state": "unknown", "unknownBecause": "the replica is starting"}
        log = buffer.log
        entries = [each for each in log.find(trace_id) if self._is_certain(each)]
        trace = buffer.undecided(trace_id)
        found["state"] = "decided" if entries else "open" if trace is not None else "unknown"
        if not entries and trace is None:
            found["unknownBecause"] = self._unknown(log.since_secs())
        return found | {
            "decisions": [document(each) for each in sorted(entries, key=lambda each: each.is_replayed)],
            "open": None if trace is None else _open(trace),
            "log": {
                "since": when(log.since_secs()),
                "reachSecs": round(log.reach_secs(now)),
                "decisions": len(log),
            },
        }

    def _is_certain(self, entry: Entry) -> bool:
        """Whether the decision is what became of the trace. After a restart, records of traces that ended long before are read
        again in part: what is decided about these parts has no effect.

        A part that has the root closes when the trace did, so before the window. A part without it may close at any time.
        Parked records may be missing anywhere."""
        if not entry.is_replayed:
            return True
        if entry.marks & RESTED or entry.decision.reason is not Reason.ROOT_QUIET:
            return False
        for partition in self._partitions:
            if partition.id == entry.partition:
                return partition.shelf is None and 0 <= partition.replay.certain_from <= entry.closed_secs
        return False

    def _unknown(self, since_secs: int) -> str:
        if not since_secs:
            return "this replica has not decided any trace since its start"
        behind = [each.id for each in self._partitions if each.replay.certain_from < 0]
        if behind:
            return f"this replica is still reading its replay, of partitions {', '.join(map(str, sorted(behind)))}"
        return (
            f"the log of this replica reaches back to {when(since_secs)}: the trace was decided before that, or by another "
            "replica, or it never came"
        )


def _open(trace: Trace) -> dict[str, object]:
    return {
        "waits": "for more spans" if trace.reason is None else "for its decision",
        "since": when(trace.first_ms / 1000),
        "lastSpanAt": when(trace.last_ms / 1000),
        "partition": trace.home.id,
        "spans": trace.spans,
        "errors": trace.errors,
        "durationMs": trace.duration_ns() / 1e6,
        "hasRoot": trace.has_root,
        "isComplete": trace.is_complete(),
    }
