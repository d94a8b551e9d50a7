"""Both scanners on the same bytes: whatever differs is a bug of one of the two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from random import Random

from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from fuzz.asking import program as random_program
from tss.core.compression.outline import Outline
from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.decision import Decision, Reason, Verdict
from tss.core.duplicates import without_duplicates
from tss.core.formats import apm_stats as statistics
from tss.core.formats import spanmetrics
from tss.core.formats.apm_stats import reference as plain_statistics
from tss.core.formats.datadog.trace import to_spans
from tss.core.formats.parquet_rows import rows
from tss.core.formats.spanmetrics import reference as plain_spanmetrics
from tss.core.otlp import (
    Encoding,
    Fragment,
    Records,
    ScanError,
    ScanErrorReason,
    lineage,
    reference,
    restating,
    scanner,
    schema,
    to_json_line,
    tracestates,
)
from tss.core.otlp.counts import with_counts
from tss.core.otlp.reading import Readable
from tss.core.otlp.wire import WireError, fields
from tss.core.partition import Partition
from tss.core.trace import Trace
from tss.core.weights import CONTRADICTED, Weight, weighed

_Both = tuple[scanner.Scanner, reference.Scanner]

PROGRAMS = 20  # drawn at random, but always the same


def both_with(program: Program, rules: Program | None = None) -> _Both:
    """Both scanners, asked the same."""
    return scanner.Scanner(program, rules), reference.Scanner(program, rules)


def _rules(number: int) -> Program | None:
    """Half of the cases have a second program."""
    return random_program(Random(f"rules {number}")) if number % 2 else None


CASES: list[_Both] = [
    both_with(ASKS_NOTHING),
    *(both_with(random_program(Random(number)), _rules(number)) for number in range(PROGRAMS)),
]

_Found = tuple[object, ...]

_NOW_NS = 1_760_000_000 * 10**9
_SHAPE = spanmetrics.Shape((spanmetrics.Dimension("k"),), max_series=20)
_CONCENTRATORS = [
    kind(_NOW_NS, max_series=20, max_bytes=20_000) for kind in (statistics.Concentrator, plain_statistics.Concentrator)
]
_SPAN_METRICS = [kind(_SHAPE) for kind in (spanmetrics.SpanMetrics, plain_spanmetrics.SpanMetrics)]


class DivergenceError(Exception):
    """The two found different things; the message says what, and has what is needed to see it again."""


def _of_fragment(fragment: Fragment) -> _Found:
    return (
        fragment.trace_id, fragment.payload, fragment.spans, fragment.errors, fragment.start_ns, fragment.end_ns,
        fragment.has_root, fragment.span_ids, fragment.missing, fragment.facts, fragment.forced,
    )  # fmt: skip


def _of_error(error: ScanError) -> _Found:
    """Of what is unreadable the two need not say the same."""
    unreadable = error.reason is ScanErrorReason.UNREADABLE
    return (error.reason, error.payload, None if unreadable else error.detail.split(" at byte ")[0])


def compare(value: bytes, case: int, encoding: Encoding = Encoding.OTLP_PROTO) -> tuple[Fragment, ...]:
    """What both found in one of `CASES`. Raises DivergenceError."""
    return compare_both(value, CASES[case], encoding, str(case))


def compare_both(
    value: bytes, both: _Both, encoding: Encoding = Encoding.OTLP_PROTO, case: str = "a program"
) -> tuple[Fragment, ...]:
    """What both found. Raises DivergenceError; `case` is what it says of the scanners."""
    ours, theirs = both
    our_errors: list[ScanError] = []
    their_errors: list[ScanError] = []
    found = ours.fragments(value, encoding, our_errors)
    expected = theirs.fragments(value, encoding, their_errors)
    same = [*map(_of_fragment, found)] == [*map(_of_fragment, expected)]
    if not same or [*map(_of_error, our_errors)] != [*map(_of_error, their_errors)]:
        raise DivergenceError(
            f"{value.hex()} {case}\ncompiled: {found} {our_errors}\nreference: {expected} {their_errors}"
        )
    return found


def count(found: tuple[Fragment, ...]) -> None:
    """Let all that counts spans count these, as one trace: none may raise, or more would be lost than a count.

    That they count the same is tested elsewhere; where a resource is broken inside they need not.
    """
    chunks = [fragment.payload for fragment in found]
    for concentrator in _CONCENTRATORS:
        concentrator.add(bytes(16), chunks, True)
        if concentrator.spans % 50 < len(chunks):
            concentrator.take(_NOW_NS)
    for metrics in _SPAN_METRICS:
        metrics.add(bytes(16), chunks, True)


def read(found: tuple[Fragment, ...]) -> None:
    """Let every reader behind the scan read these. Raises DivergenceError for one that refuses what the scan let through,
    or that does not see all spans."""
    for fragment in found:
        for reader, spans in _read(fragment):
            if spans != fragment.spans:
                raise DivergenceError(f"{fragment.payload.hex()}\n{reader} has {spans} of {fragment.spans} spans")


def _read(fragment: Fragment) -> Iterator[tuple[str, int]]:
    payload = fragment.payload
    yield "Datadog", len(to_spans(payload))
    line = json.loads(to_json_line(payload))
    groups = [scope for resource in line["resourceSpans"] for scope in resource.get("scopeSpans", ())]
    yield "a line of JSON", sum(len(scope.get("spans", ())) for scope in groups)
    yield "Parquet", len([*rows(_trace(fragment))])
    leniently = Readable(TracesData.DESCRIPTOR, payload)
    yield "the lenient reader", sum(len(scope.spans) for each in leniently.resource_spans for scope in each.scope_spans)


def _trace(fragment: Fragment) -> Trace:
    """A kept one of a single record."""
    partition = Partition(0, 0, 300_000)
    partition.ledger.read(0)
    trace = Trace(fragment.trace_id, partition, 0)
    records = Records()
    records.add(0, 0, 0)
    records.append(fragment)
    trace.absorb(records, 0)
    trace.hold(partition, 0, records, 0)
    trace.decision = Decision(Verdict.KEEP, "fuzz", Reason.ROOT_QUIET, 1.0)
    return trace


class Counters:
    """Both concentrators, given the same traces over several flushes, with room for all series."""

    def __init__(self) -> None:
        self._now_ns = _NOW_NS
        self._both = [kind(_NOW_NS) for kind in (statistics.Concentrator, plain_statistics.Concentrator)]
        self._given: list[str] = []

    def add(self, found: tuple[Fragment, ...]) -> None:
        """As one trace."""
        chunks = [fragment.payload for fragment in found if has_sound_resources(fragment.payload)]
        self._given.append(",".join(chunk.hex() for chunk in chunks))
        for each in self._both:
            each.add(bytes(16), chunks, True)

    def flush(self, later_ns: int) -> None:
        """Take what was counted, and let time pass. Raises DivergenceError."""
        self._now_ns += later_ns
        ours, theirs = (
            (each.spans, each.counted, each.unreadable, each.overflowed, sorted(map(repr, each.take(self._now_ns))))
            for each in self._both
        )
        if ours != theirs:
            raise DivergenceError(f"statistics: {ours}\n{theirs}\nafter {' '.join(self._given)}")
        self._given.clear()


def has_sound_resources(payload: bytes) -> bool:
    """Of a resource that protobuf cannot parse the walk takes what comes before the fault, and the reference nothing:
    such spans are counted all the same, and nobody asks in which series."""
    try:
        for group in schema.TracesData.FromString(payload).resource_spans:
            schema.Resource.FromString(b"".join(group.resource))
    except DecodeError:
        return False
    return True


def rework(found: tuple[Fragment, ...]) -> None:
    """Let what rewrites payloads have these, twice each. Raises DivergenceError where other spans are left than came."""
    for fragment in found:
        once, _ = without_duplicates(fragment.payload)
        twice, removed = without_duplicates(fragment.payload + fragment.payload)
        with suppress(
            WireError
        ):  # of links and events that the scan does not look into; such traces go out as they are
            Outline(twice)
        left = {*_spans_of(fragment.payload)}
        if removed < fragment.spans or [*_spans_of(twice)] != [*_spans_of(once)] or {*_spans_of(once)} != left:
            raise DivergenceError(f"{fragment.payload.hex()}\nwithout duplicates: {once.hex()} {twice.hex()}")


def weigh(found: tuple[Fragment, ...]) -> None:
    """Write weights and counts on these. Raises DivergenceError where a span has another field changed, or where writing
    weights again changes something."""
    change = partial(weighed, weight=Weight(3 << 54, (1 << 56) - 1))
    for fragment in found:
        once, outcomes = _restated(fragment.payload, change)
        again, _ = _restated(once, change)
        counted = with_counts(once, b"k", lambda _: 2.0, 0.5)
        bare = [[*map(_without_state, _spans_of(each))] for each in (fragment.payload, once)]
        settled = again == once or outcomes[CONTRADICTED]  # a threshold that is taken out makes room for another
        if sum(outcomes) != fragment.spans or not settled or bare[0] != bare[1]:
            raise DivergenceError(f"{fragment.payload.hex()}\nwith weights: {once.hex()} {again.hex()}")
        if len([*_spans_of(counted)]) != fragment.spans:
            raise DivergenceError(f"{fragment.payload.hex()}\nwith counts: {counted.hex()}")


def restate(value: bytes) -> None:
    """Change the trace states in any bytes, valid or not. Raises DivergenceError where both do not do the same."""
    for salt in range(3):
        with suppress(WireError):
            _restated(value, partial(_changed, salt=salt))


def _changed(old: bytes, salt: int) -> tuple[bytes | None, int]:
    kind = (len(old) + salt) % 3
    return (None, b"", b"n" * (len(old) + 120))[kind], kind


def _restated(value: bytes, change: tracestates.Change) -> tuple[bytes, list[int]]:
    """What both make of it. Raises WireError where both do, and DivergenceError."""
    try:
        expected = tracestates.with_states(value, change)
    except WireError:
        with suppress(WireError):
            raise DivergenceError(
                f"{value.hex()}\nchanged, but malformed: {restating.with_states(value, change)}"
            ) from None
        raise
    found = restating.with_states(value, change)
    if found != expected:
        raise DivergenceError(f"{value.hex()}\nwith other trace states: {found}\nreference: {expected}")
    return found


def _without_state(span: bytes) -> bytes:
    return b"".join(span[start:stop] for tag, start, _, stop in fields(span, 0, len(span)) if tag != 3 << 3 | 2)


def _spans_of(payload: bytes) -> list[bytes]:
    groups = plain_statistics._TracesData.FromString(payload).resource_spans  # noqa: SLF001  # spans as bytes
    return [span for group in groups for scope in group.scope_spans for span in scope.spans]


class Lineages:
    """Both lineages, given the same ids, and one that takes them from records."""

    def __init__(self) -> None:
        self._ours, self._taking, self._theirs = lineage.Lineage(), lineage.Lineage(), reference.Lineage()
        self._given: list[str] = []

    def add(self, span_ids: bytes, missing: bytes) -> None:
        """Raises DivergenceError."""
        self._given.append(f"{span_ids.hex()}/{missing.hex()}")
        self._ours.add(span_ids, missing)
        self._theirs.add(span_ids, missing)
        records = Records()
        records.add(0, 0, 0)
        records.append(Fragment(bytes(16), b"", len(span_ids) // 8, 0, 0, 0, False, span_ids, missing))
        self._taking.take(records, 0)
        if not self._ours.open == self._taking.open == self._theirs.open:
            raise DivergenceError(f"lineage: {self._ours} {self._taking} {self._theirs} after {' '.join(self._given)}")
