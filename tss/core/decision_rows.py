"""Decisions as rows: one for each decided trace, kept or dropped. Late spans follow a decision and have no row.

A queue takes the rows where traces are decided, and never waits: without room it loses rows, and counts them.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime

from tss.core.decision import Decision
from tss.core.names import Names
from tss.core.policies.probability import randomness, threshold
from tss.core.trace import Trace

ROW_BYTES = 200  # the object, its trace id, its place in a list
MOST_SECONDS = 4_096  # texts of times that are remembered
BEGINS = b'{"trace_id":"'  # each line


class Row:
    """What is known of one decided trace."""

    __slots__ = (
        "bytes", "closed_ms", "decided_ms", "decision", "duration_ns", "errors", "root", "service", "spans", "start_ns", "trace_id",
    )  # fmt: skip

    def __init__(self, trace: Trace, decided_ms: int) -> None:
        self.trace_id = trace.trace_id
        assert trace.decision is not None, "only decided traces have rows"  # noqa: S101
        self.decision = trace.decision
        self.service = trace.service  # numbers of names
        self.root = trace.root_name
        self.start_ns = trace.start_ns
        self.duration_ns = trace.duration_ns()
        self.closed_ms = trace.closed_ms  # stream time
        self.decided_ms = decided_ms  # wall clock
        self.spans = trace.spans
        self.errors = trace.errors
        self.bytes = trace.seen_bytes


class RowQueue:
    """The rows that wait to be written to one place, at most ``max_bytes`` of them."""

    def __init__(self, max_bytes: int, share: float = 1.0) -> None:
        """``share`` of the traces, chosen by the trace id: each replica and each restart chooses the same."""
        self._max_rows = max(1, max_bytes // ROW_BYTES)
        self._threshold = threshold(share)
        self._rows: list[Row] = []
        self._in_hand = 0  # rows that were taken and are not written yet
        self._lost = 0

    @property
    def held_bytes(self) -> int:
        """Memory in bytes."""
        return ROW_BYTES * len(self)

    def __len__(self) -> int:
        return len(self._rows) + self._in_hand

    def add(self, traces: Sequence[Trace], decided_ms: int) -> None:
        """Add a row for each of these traces that was decided just now."""
        room = self._max_rows - len(self._rows) - self._in_hand
        for trace in traces:
            if trace.decision is None or trace.late or not trace.is_held():
                continue
            if self._threshold and randomness(trace.trace_id) < self._threshold:
                continue
            if room <= 0:
                self._lost += 1
                continue
            room -= 1
            self._rows.append(Row(trace, decided_ms))

    def take(self, most: int) -> list[Row]:
        """The oldest rows. They count until `done`."""
        taken = self._rows[:most]
        del self._rows[:most]
        self._in_hand += len(taken)
        return taken

    def done(self, rows: Sequence[Row]) -> None:
        """These are written, or lost."""
        self._in_hand -= len(rows)

    def take_lost(self) -> int:
        """How many rows had no room since the last call."""
        lost, self._lost = self._lost, 0
        return lost


class Columns:
    """Numbers of many rows by column, as 64-bit integers in the machine's order."""

    def __init__(self, rows: list[Row]) -> None:
        size = len(rows)
        self.start_ns = array("q", bytes(8 * size))
        self.duration_ns = array("q", bytes(8 * size))
        self.closed_ms = array("q", bytes(8 * size))
        self.decided_ms = array("q", bytes(8 * size))
        self.spans = array("q", bytes(8 * size))
        self.errors = array("q", bytes(8 * size))
        self.bytes = array("q", bytes(8 * size))
        self.services = array("i", bytes(4 * size))
        self.roots = array("i", bytes(4 * size))
        self._fill(rows)

    def _fill(self, rows: list[Row]) -> None:
        start, duration, closed, decided = self.start_ns, self.duration_ns, self.closed_ms, self.decided_ms
        spans, errors, sizes, services, roots = self.spans, self.errors, self.bytes, self.services, self.roots
        for number, row in enumerate(rows):
            start[number] = row.start_ns
            duration[number] = row.duration_ns
            closed[number] = row.closed_ms
            decided[number] = row.decided_ms
            spans[number] = row.spans
            errors[number] = row.errors
            sizes[number] = row.bytes
            services[number] = row.service
            roots[number] = row.root


class LineWriter:
    """Writes rows as JSON, one line each. The texts that many rows share are made once."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._services: list[str] = []
        self._roots: list[str] = []
        self._decisions: dict[Decision, str] = {}
        self._seconds: dict[int, str] = {}
        self._millis = [f"{number:03}" for number in range(1000)]

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """One line for each row, without the newline."""
        self._learn()
        services, roots = self._services, self._roots
        found: list[str] = []
        for row in rows:
            decision = self._decisions.get(row.decision)
            if decision is None:
                decision = self._decided(row.decision)
            found.append(
                f'{{"trace_id":"{row.trace_id.hex()}","closed":"{self._moment(row.closed_ms)}",'
                f'"decided":"{self._moment(row.decided_ms)}","start":"{self._moment(row.start_ns // 1_000_000)}",'
                f'"duration_ns":{row.duration_ns},"spans":{row.spans},"errors":{row.errors},"bytes":{row.bytes},'
                f'"service":{services[row.service]},"root":{roots[row.root]},{decision}}}'
            )
        return found

    def _learn(self) -> None:
        """Make the texts of new names."""
        for texts, names in ((self._services, self._names.services.texts), (self._roots, self._names.roots.texts)):
            texts += [json.dumps(name) for name in names[len(texts) :]]

    def _decided(self, decision: Decision) -> str:
        if len(self._decisions) >= MOST_SECONDS:
            self._decisions.clear()
        text = json.dumps(_fields(decision), separators=(",", ":"))[1:-1]
        self._decisions[decision] = text
        return text

    def _moment(self, ms: int) -> str:
        if ms <= 0:
            return ""
        second = ms // 1000
        text = self._seconds.get(second)
        if text is None:
            text = self._second(second)
        return f"{text}{self._millis[ms % 1000]}Z"

    def _second(self, second: int) -> str:
        if len(self._seconds) >= MOST_SECONDS:
            self._seconds.clear()
        try:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        except (ValueError, OverflowError, OSError):  # a span may begin in the year 500,000,000
            text = "9999-12-31T23:59:59."
        self._seconds[second] = text
        return text


def _fields(decision: Decision) -> dict[str, object]:
    return {
        "verdict": decision.verdict.value,
        "policy": decision.policy,
        "reason": decision.reason.value,
        "rate": decision.rate,
        "ruleset": decision.ruleset,
    }
