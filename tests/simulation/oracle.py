"""What is true, worked out from the log alone by brute force and without any code of the daemon.

Two things: what the policies say of a set of spans, and, where the log leaves no doubt, which spans of a trace are
known when it is decided, however fast the log is read and wherever reading begins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import attrs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status, TracesData

from tests.fakes.destination import SpanKey
from tests.simulation import policies
from tss.core.buffer import Waits
from tss.settings import App, Sampling

GRACE_MS = 2_000  # the design's: the wall clock moves stream time less this


@attrs.frozen
class Fact:
    """What the oracle knows of one span."""

    key: SpanKey
    parent_id: bytes
    error: bool
    wire: bytes
    service: str = ""  # of its resource


@attrs.frozen
class Occurrence:
    """The spans of one trace in one record."""

    partition: int
    offset: int
    timestamp_ms: int
    appended_ms: int
    facts: tuple[Fact, ...]
    size: int = 0  # see `sizes_of`

    @property
    def place(self) -> tuple[int, int]:
        return self.partition, self.offset


def facts_of(value: bytes) -> dict[bytes, list[Fact]]:
    """By trace, the well-formed spans of a record; nothing for a record that cannot be read."""
    by_trace: dict[bytes, list[Fact]] = {}
    try:
        data = TracesData.FromString(value)
    except Exception:
        return by_trace
    for resource in data.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) == 16 and any(span.trace_id) and len(span.span_id) == 8 and any(span.span_id):
                    by_trace.setdefault(span.trace_id, []).append(_fact(span, _service(resource)))
    return by_trace


def sizes_of(value: bytes) -> dict[bytes, int]:
    """By trace, the bytes of a TracesData that has only the well-formed spans of this trace in the record."""
    found = {}
    for trace_id, facts in facts_of(value).items():
        data = TracesData.FromString(value)
        wires = {fact.wire for fact in facts}
        for resource in data.resource_spans:
            for scope in resource.scope_spans:
                own = [span for span in scope.spans if span.SerializeToString() in wires]
                del scope.spans[:]
                scope.spans.extend(own)
            scopes = [scope for scope in resource.scope_spans if scope.spans]
            del resource.scope_spans[:]
            resource.scope_spans.extend(scopes)
        resources = [resource for resource in data.resource_spans if resource.scope_spans]
        found[trace_id] = TracesData(resource_spans=resources).ByteSize()
    return found


def _fact(span: Span, service: str) -> Fact:
    error = span.status.code == Status.STATUS_CODE_ERROR
    return Fact(SpanKey.of(span), span.parent_span_id, error, span.SerializeToString(), service)


def _service(resource: ResourceSpans) -> str:
    return next((each.value.string_value for each in resource.resource.attributes if each.key == "service.name"), "")


def keeps(facts: Iterable[Fact], sampling: Sampling) -> bool:
    """Whether the policies keep a trace with these spans."""
    known = list(facts)
    if sampling.policies:
        return policies.keeps(known, sampling)
    rate = sampling.default_sample_rate
    if sampling.always_sample_errors and any(fact.error for fact in known):
        rate = max(rate, sampling.error_sample_rate)
    starts = [fact.key.start_ns for fact in known if fact.key.start_ns]
    took_ns = max(fact.key.end_ns for fact in known) - min(starts) if starts else 0
    if sampling.sample_latency and took_ns >= sampling.latency_threshold_ms * 1e6:
        rate = max(rate, sampling.latency_sample_rate)
    randomness = int.from_bytes(known[0].key.trace_id[9:], "big")
    return randomness >= (1 - rate) * 2**56


def complete(facts: Iterable[Fact]) -> bool:
    """The root is there and every parent too."""
    known = list(facts)
    seen = {fact.key.span_id for fact in known}
    roots = [fact for fact in known if not any(fact.parent_id)]
    return bool(roots) and all(fact.parent_id in seen for fact in known if any(fact.parent_id))


@attrs.frozen
class Chronicle:
    """The whole log of a run, and between which bounds its stream time was when each record was read.

    Not above: the largest timestamp so far, and the wall clock of the moment the record was written, less the grace
    (an end of the log that was seen later than that would have shown the record). Not below: its own timestamp.
    """

    app: App
    waits: Waits  # of a Collector's section; 0: our own, in ``app``
    max_trace_bytes: int  # 0: no limit
    occurrences: dict[bytes, list[Occurrence]]  # by trace, in the order of the log
    highest: dict[tuple[int, int], int]  # by place: the upper bound at that record
    offsets: dict[int, list[int]]

    @classmethod
    def of(
        cls,
        logs: Sequence[Sequence[tuple[int, int, int, dict[bytes, list[Fact]], dict[bytes, int]]]],
        app: App,
        ended_ms: int,
        waits: Waits,
        max_trace_bytes: int,
    ) -> Chronicle:
        """``logs`` are by partition (offset, timestamp_ms, appended_ms, facts by trace, sizes by trace)."""
        occurrences: dict[bytes, list[Occurrence]] = {}
        highest: dict[tuple[int, int], int] = {}
        believed_ms = ended_ms + round(app.max_clock_skew_secs * 1000)
        for partition, log in enumerate(logs):
            high = 0
            for offset, timestamp_ms, appended_ms, by_trace, sizes in log:
                if timestamp_ms <= believed_ms:
                    high = max(high, timestamp_ms)
                high = max(high, appended_ms - GRACE_MS)
                highest[partition, offset] = high
                for trace_id, facts in by_trace.items():
                    size = sizes[trace_id]
                    seen = Occurrence(partition, offset, timestamp_ms, appended_ms, tuple(facts), size)
                    occurrences.setdefault(trace_id, []).append(seen)
        offsets = {partition: [entry[0] for entry in log] for partition, log in enumerate(logs)}
        return cls(app, waits, max_trace_bytes, occurrences, highest, offsets)

    def first_group(self, trace_id: bytes) -> list[Occurrence] | None:
        """What is known of the trace when it is decided, where that can be told from the log alone; else None."""
        seen = self.occurrences[trace_id]
        if len({each.partition for each in seen}) > 1:
            return None
        group: list[Occurrence] = []
        for each in seen:
            sane = self._lowest(each)
            if group:
                earliest, latest = self._deadline(group)
                if sane is not None and sane >= latest + 1000:
                    return group
                if self.highest[each.place] >= earliest:
                    return None
            if sane is None:
                return None
            group.append(each)
            if self.is_too_large(group) or sum(len(one.facts) for one in group) >= self.app.max_trace_spans:
                return group
        return group

    def is_too_large(self, group: Iterable[Occurrence]) -> bool:
        """Whether a trace of these is dropped for its size."""
        return 0 < self.max_trace_bytes < sum(one.size for one in group)

    def _deadline(self, group: Sequence[Occurrence]) -> tuple[float, float]:
        """The stream time at which a trace of these closes: not before the first, not a second after the second."""
        begins, ends = self._times(group[:1]), self._times(group)
        waits: list[tuple[tuple[int, int], float]]
        if self.waits.decision_wait_ms:
            waits = [(begins, self.waits.decision_wait_ms)]
            with_root = [number for number, one in enumerate(group) if any(not any(f.parent_id) for f in one.facts)]
            if with_root and self.waits.root_wait_ms:
                waits.append((self._times(group[: with_root[0] + 1]), self.waits.root_wait_ms))
        else:
            app = self.app
            quiet_secs = app.root_quiet_secs if complete(_facts(group)) else app.inactivity_timeout_secs
            waits = [(begins, app.max_trace_duration_secs * 1000), (ends, quiet_secs * 1000)]
        return min(low + wait for (low, _), wait in waits), min(high + wait for (_, high), wait in waits)

    def _times(self, group: Sequence[Occurrence]) -> tuple[int, int]:
        """The bounds of the stream time when the last of these was read."""
        return max(one.timestamp_ms for one in group), self.highest[group[-1].place]

    def is_reread(self, seen: Occurrence, committed: int) -> bool:
        """Whether a start from this commit must read this record again, be it to remember."""
        if seen.offset >= committed:
            return True
        if not self.app.replay_secs or self._lowest(seen) is None:
            return False
        offsets = self.offsets[seen.partition]
        at_commit = offsets[min(bisect_left(offsets, committed), len(offsets) - 1)]
        reached_secs = self.highest[seen.partition, at_commit] // 1000
        return seen.timestamp_ms // 1000 >= reached_secs - int(self.app.replay_secs)

    def _lowest(self, seen: Occurrence) -> int | None:
        sane = 0 < seen.timestamp_ms <= seen.appended_ms + self.app.max_clock_skew_secs * 1000
        return seen.timestamp_ms if sane else None


def _facts(group: Iterable[Occurrence]) -> list[Fact]:
    return [fact for each in group for fact in each.facts]
