"""The concentrator written with protobuf: slow and simple. It is the reference for the compiled one, and its fallback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from google.protobuf.message import DecodeError

from tss.core.formats.apm_stats import groups, sketch
from tss.core.formats.apm_stats.groups import (
    BUCKET_NS,
    MAX_BYTES,
    MAX_INT64,
    MAX_SERIES,
    MEASURED,
    ONE,
    OVERFLOW,
    GroupedStats,
    Name,
)
from tss.core.formats.datadog import naming
from tss.core.head import SAMPLE_RATE
from tss.core.otlp import schema
from tss.core.protobuf_classes import classes_of
from tss.core.spantime import start_and_duration

GROUP_BYTES = 1000  # an estimate: dict and counters of a group
BIN_BYTES = 100

# Spans are bytes in these messages: a redelivered span is equal byte for byte.
_TracesData = classes_of(
    "tss.spans",
    {
        "TracesData": (("resource_spans", 1, "*ResourceSpans"),),
        "ResourceSpans": (("resource", 1, "*bytes"), ("scope_spans", 2, "*ScopeSpans")),
        "ScopeSpans": (("spans", 2, "*bytes"),),
    },
)["TracesData"]

_COUNTED_KINDS = frozenset((naming.SERVER, naming.CLIENT, naming.PRODUCER, naming.CONSUMER))


@attrs.define
class _Counts:
    """The counts of one group, in units of 1 / `groups.ONE`; `duration_ns` is in ns, and the sketches count spans."""

    hits: int = 0
    errors: int = 0
    top_level_hits: int = 0
    duration_ns: int = 0
    ok: Counter[int | None] = attrs.field(factory=Counter)  # by bin; None is the bin of durations of 0
    error: Counter[int | None] = attrs.field(factory=Counter)


@attrs.frozen
class _Seen:
    """A span, and what is known without the other spans of its trace."""

    raw: bytes
    span: Any  # a message of `schema`
    name: Name | None
    measured: bool
    weight: int  # 0 if the span gives none


class Concentrator:
    """Counts spans by bucket and series."""

    def __init__(self, now_ns: int, max_series: int = MAX_SERIES, max_bytes: int = MAX_BYTES) -> None:
        self.spans = 0  # all spans given to `add`
        self.counted = 0  # spans that statistics count
        self.unreadable = 0  # spans whose attributes cannot be parsed
        self.overflowed = 0  # counted spans that went to OVERFLOW, because there was no room for their series
        self._max_series = max_series
        self._max_bytes = max_bytes
        self._now_ns = now_ns
        self._names: set[Name] = set()
        self._groups: dict[tuple[int, Name, bool], _Counts] = {}
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Concentrator {self.groups} groups, {self.held_bytes} bytes>"

    @property
    def groups(self) -> int:
        return len(self._groups)

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def add(self, trace_id: bytes, chunks: list[bytes], kept: bool) -> None:  # as SpanObserver
        """Count the spans of one trace, or late spans of it. A span that occurs twice counts once."""
        everything = [seen for chunk in chunks for seen in _seen(chunk)]
        self.spans += len(everything)
        by_id: dict[bytes, _Seen] = {}
        for seen in everything:
            by_id.setdefault(seen.span.span_id, seen)
        usual = _weight_of_root(everything, by_id) or ONE
        firsts: dict[bytes, _Seen] = {}
        for seen in everything:
            firsts.setdefault(seen.raw, seen)
        for seen in firsts.values():
            parent = by_id.get(_parent(seen.span))
            top = parent is None or _service(parent) != _service(seen)
            if top or seen.measured or seen.span.kind in _COUNTED_KINDS:
                self._count(seen, seen.weight or usual, top)

    def _count(self, seen: _Seen, weight: int, top: bool) -> None:
        if seen.name is None:
            self.unreadable += 1
            return
        self.counted += 1
        span = seen.span
        start, duration = start_and_duration(span.start_time_unix_nano, span.end_time_unix_nano, self._now_ns)
        place = sketch.bin_of(duration) if duration else None
        counts = self._counts(seen, start + duration, place)
        failed = span.status.code == 2  # STATUS_CODE_ERROR
        counts.hits = min(counts.hits + weight, MAX_INT64)
        counts.errors = min(counts.errors + weight * failed, MAX_INT64)
        counts.top_level_hits = min(counts.top_level_hits + weight * top, MAX_INT64)
        counts.duration_ns = min(counts.duration_ns + min((duration * weight + ONE // 2) // ONE, MAX_INT64), MAX_INT64)
        (counts.error if failed else counts.ok)[place] += 1

    def _counts(self, seen: _Seen, end_ns: int, place: int | None) -> _Counts:
        start = groups.start_between(end_ns // BUCKET_NS * BUCKET_NS, self._now_ns)
        root = not _parent(seen.span)
        name = seen.name if seen.name is not None else OVERFLOW
        if name not in self._names:
            if len(self._names) >= self._max_series:
                return self._overflow(start)
            self._names.add(name)
        found = self._groups.get((start, name, root))
        if found is None or place not in (found.error if seen.span.status.code == 2 else found.ok):
            if self._bytes >= self._max_bytes:
                return self._overflow(start)
            self._bytes += BIN_BYTES if found else GROUP_BYTES + len(name.resource)
        return found or self._groups.setdefault((start, name, root), _Counts())

    def _overflow(self, start: int) -> _Counts:
        self.overflowed += 1
        return self._groups.setdefault((start, OVERFLOW, False), _Counts())

    def tick(self, now_ns: int) -> None:
        """Set the current time."""
        self._now_ns = now_ns

    def take(self, now_ns: int) -> list[GroupedStats]:
        """The groups counted since the last call. The counters start again from zero."""
        self.tick(now_ns)
        found, self._groups, self._names, self._bytes = self._groups, {}, set(), 0
        return [
            _group(groups.start_between(start, now_ns), name, root, each) for (start, name, root), each in found.items()
        ]


def _seen(chunk: bytes) -> Iterator[_Seen]:
    for resource_spans in _TracesData.FromString(chunk).resource_spans:
        resource = b"".join(resource_spans.resource)
        around, named = _notes(schema.Resource, resource), groups.around_of(resource)
        for raw in (raw for scope_spans in resource_spans.scope_spans for raw in scope_spans.spans):
            span = schema.Span.FromString(raw)
            notes = {**around, **_notes(schema.Span, raw)}
            yield _Seen(
                raw,
                span,
                groups.name_of(raw, named),
                MEASURED in notes and groups.is_measured(notes[MEASURED]),
                groups.weight(span.trace_state, notes.get(SAMPLE_RATE, b"")),
            )


def _notes(message: Any, holder: bytes) -> Mapping[str, bytes]:
    """The serialized attributes of `groups.NOTES`, the first of each key. Attributes that cannot be parsed are skipped."""
    found: dict[str, bytes] = {}
    try:
        pairs = message.FromString(holder).attributes
    except DecodeError:  # the scanner does not look into resources
        return {}
    for attribute in pairs:
        if len(attribute) > groups.MAX_NOTE:
            continue
        try:
            pair = schema.KeyValue.FromString(attribute)
        except DecodeError:
            continue
        found.setdefault(pair.key.decode(errors="replace"), attribute)
    return {key: found[key] for key in groups.NOTES if key in found}


def _parent(span: Any) -> bytes:
    """The parent's id; empty for a root, and if the id is invalid."""
    parent: bytes = span.parent_span_id
    return parent if len(parent) == 8 and any(parent) else b""


def _service(seen: _Seen) -> str | None:
    return seen.name and seen.name.service


def _weight_of_root(everything: Sequence[_Seen], by_id: Mapping[bytes, _Seen]) -> int:
    """The weight of the root; without a root, of the first span whose parent is missing."""
    leads = [seen for seen in everything if not _parent(seen.span)]
    leads += [seen for seen in everything if _parent(seen.span) not in by_id]
    return (leads or everything)[0].weight if everything else 0


def _group(start_ns: int, name: Name, root: bool, counts: _Counts) -> GroupedStats:
    hits, errors, tops = groups.made_whole(start_ns, name, root, (counts.hits, counts.errors, counts.top_level_hits))
    return GroupedStats(
        start_ns, name, root, hits, errors, tops, counts.duration_ns, _sketch(counts.ok), _sketch(counts.error)
    )


def _sketch(bins: Mapping[int | None, int]) -> bytes:
    return sketch.encode({place: count for place, count in bins.items() if place is not None}, bins.get(None, 0))
