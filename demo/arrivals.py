"""What has arrived in the daemon's output file, beside what should have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import Factory, define, frozen

from demo.traffic import Trace

RECENT_TRACES = 500  # of which spans may still come and be shown with the rest; only a screenful is seen anyway


@define
class Arrived:
    """A kept trace as the file has it. Times are nanoseconds since the epoch."""

    trace_id: bytes
    span_ids: set[bytes] = Factory(set)
    errors: int = 0
    start_ns: int = 0
    end_ns: int = 0
    root: str = ""
    service: str = ""

    @property
    def duration_ms(self) -> float:
        """From the earliest start to the latest end."""
        return (self.end_ns - self.start_ns) / 1e6

    def add(self, span: dict[str, Any], service: str) -> None:
        """One span of OTLP JSON; a span that came before changes nothing."""
        span_id = bytes.fromhex(span["spanId"])
        if span_id in self.span_ids:
            return
        self.span_ids.add(span_id)
        start_ns, end_ns = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        self.start_ns = min(self.start_ns or start_ns, start_ns)
        self.end_ns = max(self.end_ns, end_ns)
        self.errors += span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR")
        if not span.get("parentSpanId"):
            self.root, self.service = span["name"], service


class OutputFile:
    """Follows the file that the file exporter writes: one OTLP JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.traces = 0
        self.spans = 0
        self.recent: dict[bytes, Arrived] = {}  # in the order they came
        self._seen: set[bytes] = set()  # trace ids: 16 bytes of each kept trace is little for what a demo keeps
        self._read_to = 0
        self._torn = b""

    def news(self) -> Iterator[tuple[bytes, bytes]]:
        """(trace id, span id) of all that was added since the last call."""
        for line in self._new_lines():
            for resource in json.loads(line)["resourceSpans"]:
                service = _service(resource)
                for scope in resource.get("scopeSpans", ()):
                    for span in scope.get("spans", ()):
                        yield self._arrived(span, service)

    def _arrived(self, span: dict[str, Any], service: str) -> tuple[bytes, bytes]:
        trace_id = bytes.fromhex(span["traceId"])
        self.spans += 1
        if trace_id not in self._seen:
            self._seen.add(trace_id)
            self.traces += 1
        if trace_id not in self.recent:
            self.recent[trace_id] = Arrived(trace_id)
            while len(self.recent) > RECENT_TRACES:
                del self.recent[next(iter(self.recent))]
        self.recent[trace_id].add(span, service)
        return trace_id, bytes.fromhex(span["spanId"])

    def _new_lines(self) -> list[bytes]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                data = file.read()
        except FileNotFoundError:
            return []
        self._read_to += len(data)
        *lines, self._torn = (self._torn + data).split(b"\n")
        return [line for line in lines if line]


def _service(resource: dict[str, Any]) -> str:
    for attribute in resource.get("resource", {}).get("attributes", ()):
        if attribute["key"] == "service.name":
            return str(attribute["value"]["stringValue"])
    return ""


@frozen
class Owed:
    """A trace that must be kept, and what of it has not arrived yet."""

    trace: Trace
    due_secs: float  # in the traffic's time
    missing: set[bytes]


class Promises:
    """Which traces must be kept, and whether all their spans have arrived."""

    def __init__(self) -> None:
        self.kept_whole = 0
        self._owed: dict[bytes, Owed] = {}

    def __repr__(self) -> str:
        return f"<Promises {self.kept_whole} kept, {len(self._owed)} open>"

    @property
    def open(self) -> int:
        """How many are not kept yet."""
        return len(self._owed)

    def made(self, trace: Trace, wait_secs: float) -> None:
        """This trace must have arrived ``wait_secs`` after the last of it was sent."""
        if trace.why:
            self._owed[trace.trace_id] = Owed(trace, trace.last_secs + wait_secs, set(trace.span_ids))

    def arrived(self, news: Iterable[tuple[bytes, bytes]]) -> None:
        """These (trace id, span id) are in the file."""
        for trace_id, span_id in news:
            owed = self._owed.get(trace_id)
            if owed is None:
                continue
            owed.missing.discard(span_id)
            if not owed.missing:
                del self._owed[trace_id]
                self.kept_whole += 1

    def overdue(self, now_secs: float) -> list[Owed]:
        """Those that have had their time and are not there."""
        return [owed for owed in self._owed.values() if owed.due_secs <= now_secs]
