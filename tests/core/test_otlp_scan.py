"""Law 6, bytes in, bytes out: a scan moves spans, it never rewrites them. Summaries, and what is put aside.

Everything here holds for both scanners.
"""

import threading
import time
from collections import Counter
from itertools import pairwise

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from tests.core import spans as small
from tests.core.otlp_records import (
    FIXED32,
    FIXED64,
    LENGTH,
    SCANS,
    SPANS,
    TRACES,
    VARINT,
    Record,
    Scans,
    blob,
    both,
    damaged,
    in_group,
    label_of,
    one_span,
    payloads,
    records,
    scan_of,
    span_bodies_in,
    spans_in,
    tag,
    varint,
)  # fmt: skip
from tss.core.otlp import SCANNER, Encoding, Fragment, ScanErrorReason, join, scanner, schema

quick = settings(max_examples=60, deadline=None)


def test_the_compiled_scanner_is_at_work() -> None:
    assert SCANNER == "compiled"


# Law 6 --------------------------------------------------------------------------------------------------------------


@quick
@given(record=records())
def test_law_6_each_span_comes_out_once_and_byte_for_byte(record: Record) -> None:
    for scan in SCANS:
        found = scan(record.raw, Encoding.OTLP_PROTO)
        if not record.bodies:
            assert [(error.reason, error.payload) for error in found.scan_errors] == [
                (ScanErrorReason.EMPTY, record.raw)
            ]
            continue
        out = [list(span_bodies_in(payload)) for payload in payloads(found)]
        assert Counter(body for bodies in out for body in bodies) == Counter(record.bodies)
        for bodies in out:
            assert len({label_of(body) for body in bodies}) == 1
            assert bodies == [body for body in record.bodies if label_of(body) == label_of(bodies[0])]
        joined = spans_in(join(payloads(found)))
        assert Counter(map(Span.SerializeToString, joined)) == Counter(
            map(Span.SerializeToString, spans_in(record.raw))
        )


@quick
@given(record=records())
def test_law_6_only_the_lengths_of_what_was_split_change(record: Record) -> None:
    for scan in SCANS:
        found = scan(record.raw, Encoding.AUTO)
        for fragment in found.fragments:
            assert fragment.payload == record.part(fragment.trace_id)
        for error in found.scan_errors:
            assert error.payload == record.part(error.reason) or error.reason is ScanErrorReason.EMPTY


@both
def test_law_6_one_trace_keeps_the_very_bytes_that_arrived(scan: Scans) -> None:
    body = blob(2, SPANS[0]) + in_group(1000, [blob(3, b"?")]) + blob(1, TRACES[0]) + tag(7, VARINT, 5) + varint(3, 10)
    bare = tag(1, LENGTH, 5) + varint(0, 5)
    scope = tag(2, LENGTH, 2) + varint(len(body), 3) + body + blob(1, b"") + blob(1, b"")
    record = bare + blob(1, blob(2, scope) + blob(1000, b"old")) + in_group(1, [blob(2, b"")]) + one_span()
    (fragment,) = scan(record, Encoding.AUTO).fragments
    assert fragment.payload is record
    assert fragment.spans == 2


@both
def test_law_6_what_surrounds_a_span_goes_with_it_in_order(scan: Scans) -> None:
    first, second = (blob(2, blob(1, trace) + blob(2, SPANS[0])) for trace in TRACES[:2])
    resource, again, url, old = blob(1, blob(1, b"")), blob(1, blob(2, b"")), blob(3, b"url"), blob(1000, b"old")
    scope, unknown = blob(1, b""), tag(99, FIXED32) + b"four"
    record = blob(1, resource + blob(2, unknown + first + scope + second + url) + old + again) + unknown
    found = scan(record, Encoding.OTLP_PROTO)
    assert [fragment.payload for fragment in found.fragments] == [
        blob(1, resource + blob(2, unknown + content + url) + old + again) + unknown
        for content in (first + scope, scope + second)
    ]


# Summaries ----------------------------------------------------------------------------------------------------------


def naive(trace_id: bytes, payload: bytes, spans: list[Span]) -> Fragment:
    ids = [span.span_id for span in spans]
    parents = [span.parent_span_id for span in spans if span.parent_span_id not in (b"", bytes(8))]
    missing = dict.fromkeys(parent if len(parent) == 8 else bytes(8) for parent in parents if parent not in ids)
    return Fragment(
        trace_id=trace_id,
        payload=payload,
        spans=len(spans),
        errors=sum(span.status.code == 2 for span in spans),
        start_ns=min([span.start_time_unix_nano for span in spans if span.start_time_unix_nano], default=0),
        end_ns=max([span.end_time_unix_nano for span in spans if span.end_time_unix_nano], default=0),
        has_root=len(parents) < len(spans),
        span_ids=b"".join(ids),
        missing=b"".join(missing),
    )


@quick
@given(record=records())
def test_a_summary_says_what_protobuf_says(record: Record) -> None:
    for scan in SCANS:
        found = scan(record.raw, Encoding.AUTO)
        everything = list(zip(map(label_of, record.bodies), spans_in(record.raw), strict=True))
        seen = dict.fromkeys(label for label, _ in everything if isinstance(label, bytes))
        assert [fragment.trace_id for fragment in found.fragments] == list(seen)
        for fragment in found.fragments:
            members = [span for label, span in everything if label == fragment.trace_id]
            assert fragment == naive(fragment.trace_id, fragment.payload, members)
            assert fragment == naive(fragment.trace_id, fragment.payload, spans_in(fragment.payload))


def the_fragment(scan: Scans, rest: bytes = b"", span_id: bytes = SPANS[0]) -> Fragment:
    (fragment,) = scan(one_span(span_id=span_id, rest=rest), Encoding.AUTO).fragments
    return fragment


@both
def test_a_span_without_times_has_neither_start_nor_end(scan: Scans) -> None:
    assert (the_fragment(scan).start_ns, the_fragment(scan).end_ns) == (0, 0)


@both
def test_a_span_may_end_before_it_starts(scan: Scans) -> None:
    times = tag(7, FIXED64) + (9).to_bytes(8, "little") + tag(8, FIXED64) + (3).to_bytes(8, "little")
    fragment = the_fragment(scan, times)
    assert (fragment.start_ns, fragment.end_ns) == (9, 3)


@both
@pytest.mark.parametrize("parent", [b"", bytes(8)])
def test_an_empty_or_zero_parent_makes_a_root(scan: Scans, parent: bytes) -> None:
    assert the_fragment(scan, blob(4, parent)).has_root
    assert the_fragment(scan, blob(4, parent)).missing == b""


@both
def test_its_own_parent_is_neither_root_nor_missing(scan: Scans) -> None:
    fragment = the_fragment(scan, blob(4, SPANS[0]))
    assert (fragment.has_root, fragment.missing) == (False, b"")


@both
def test_a_parent_elsewhere_is_missing(scan: Scans) -> None:
    assert the_fragment(scan, blob(4, SPANS[1])).missing == SPANS[1]


@both
def test_repr_shows_the_state_and_not_the_bytes(scan: Scans) -> None:
    assert repr(the_fragment(scan, blob(4, SPANS[1]))) == (
        "Fragment(trace_id=74726163652d612d31362d6279746573, payload=<44 bytes>, spans=1, errors=0, start_ns=0, end_ns=0,"
        " has_root=False, missing=7370616e2d303032, facts=, forced=)"
    )


@both
def test_missing_parents_come_once_each_in_the_order_of_their_naming(scan: Scans) -> None:
    parents = (SPANS[3], b"odd", SPANS[0], SPANS[2], SPANS[3], b"odd, too", b"elsewhere-at-all", bytes(8), b"odd")
    named = [blob(4, parent) for parent in parents]
    value = b"".join(one_span(span_id=SPANS[number % 2], rest=rest) for number, rest in enumerate(named))
    (fragment,) = scan(value, Encoding.OTLP_PROTO).fragments
    assert fragment.missing == SPANS[3] + bytes(8) + SPANS[2] + b"odd, too"
    assert fragment.has_root


@both
def test_a_large_trace_is_summed_in_linear_time(scan: Scans) -> None:
    """Each span of 30,000 names another parent, every second of them one that is not there."""
    spans = 30_000
    ids = [number.to_bytes(8, "big") for number in range(1, 2 * spans + 1)]
    bodies = [
        blob(1, TRACES[0]) + blob(2, ids[at]) + blob(4, ids[spans - at if at % 2 else 2 * spans - at - 1])
        for at in range(spans)
    ]
    value = blob(1, blob(2, b"".join(blob(2, body) for body in bodies)))
    began = time.process_time()
    (fragment,) = scan(value, Encoding.OTLP_PROTO).fragments
    assert time.process_time() - began < 2
    assert fragment.span_ids == b"".join(ids[:spans])
    assert fragment.missing == b"".join(ids[2 * spans - at - 1] for at in range(0, spans, 2))


# Faults -------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("value", [None, b"", blob(1, b""), blob(1, blob(2, b"")), blob(1, blob(1000, b"")), b"{}"])
def test_a_record_without_spans_is_empty(scan: Scans, value: bytes | None) -> None:
    found = scan(value, Encoding.AUTO)
    assert found.fragments == ()
    assert [(error.reason, error.payload) for error in found.scan_errors] == [(ScanErrorReason.EMPTY, value or b"")]


@both
def test_bad_spans_are_taken_out_one_fault_each_reason(scan: Scans) -> None:
    good, bad_trace, zero_trace = one_span(), one_span(trace_id=b"short"), one_span(trace_id=bytes(16))
    bad_span, both_bad = one_span(span_id=bytes(8)), one_span(b"", b"")
    found = scan(bad_trace + good + bad_span + zero_trace + both_bad, Encoding.AUTO)
    assert [fragment.payload for fragment in found.fragments] == [good]
    assert [(error.reason, error.payload) for error in found.scan_errors] == [
        (ScanErrorReason.INVALID_TRACE_ID, bad_trace + zero_trace + both_bad),
        (ScanErrorReason.INVALID_SPAN_ID, bad_span),
    ]
    assert found.scan_errors[0].detail == (
        "3 of 5 spans: trace id is not 16 bytes or is all zero; the first has 5 bytes: 73686f7274"
    )


@both
def test_an_id_of_any_size_makes_a_short_detail(scan: Scans) -> None:
    (error,) = scan(one_span(trace_id=b"x" * 100_000), Encoding.AUTO).scan_errors
    assert len(error.detail) < 200


def groups(depth: int) -> bytes:
    return b"\x0b" * depth + b"\x0c" * depth


@both
@pytest.mark.parametrize(
    "value",
    [
        b"\xff",
        b"\x00\x00",
        one_span()[:-1],
        one_span() + b"\x0c",
        one_span() + b"\x0b",
        one_span() + tag(1, LENGTH, 6) + varint(0),
        one_span() + varint(1 << 32 | 0x0A, 5) + varint(0),
        one_span() + tag(1, LENGTH) + varint(0, 6),
        one_span() + tag(1, LENGTH) + varint(2**64 - 1),
        one_span() + tag(9, VARINT) + varint(1, 11),
        one_span() + tag(9, FIXED64) + b"seven..",
        one_span() + b"\x0e",
        one_span(rest=blob(15, b"\x18")),
        one_span(rest=blob(15, b"\x10\x01")) + tag(9, FIXED32) + b"3..",
        one_span() + b"\x0b" * 200_000,
        b'{"resourceSpans":',
        b"{" + one_span(),
    ],
    ids=lambda value: repr(value[-8:]),
)
def test_an_unreadable_value_is_put_aside_whole(scan: Scans, value: bytes) -> None:
    found = scan(value, Encoding.AUTO)
    assert found.fragments == ()
    assert [(error.reason, error.payload) for error in found.scan_errors] == [(ScanErrorReason.UNREADABLE, value)]
    assert 0 < len(found.scan_errors[0].detail) <= 500


def test_the_compiled_one_says_what_is_wrong_and_where() -> None:
    compiled = scan_of(scanner)
    (error,) = compiled(one_span() + tag(9, LENGTH) + varint(300) + bytes(288), Encoding.AUTO).scan_errors
    where = len(one_span()) + 1
    assert error.detail == f"a length of 300 bytes runs 12 bytes past the end of its message at byte {where}"


@both
@pytest.mark.parametrize("level", range(5))
def test_groups_nest_as_deep_as_protobuf_lets_them(scan: Scans, level: int) -> None:
    """100 messages and groups in each other, below the outermost."""

    def wrapped(depth: int) -> bytes:
        inner = groups(depth)
        for number in (15, 2, 2, 1)[4 - level :]:
            inner = blob(number, inner)
        return one_span() + inner

    assert scan(wrapped(100 - level), Encoding.AUTO).fragments
    assert [error.reason for error in scan(wrapped(101 - level), Encoding.AUTO).scan_errors] == [
        ScanErrorReason.UNREADABLE
    ]


@both
@pytest.mark.parametrize(
    "rest",
    [
        blob(5, b"\xff not UTF-8"),
        blob(3, b"\xff"),
        blob(9, b"\xff not an attribute"),
        blob(11, b"\xff not an event"),
        blob(13, b"\xff not a link"),
        blob(15, blob(2, b"\xff not UTF-8")),
    ],
)
@pytest.mark.parametrize("around", [b"", blob(1, b"\xff not a resource"), blob(3, b"\xff not UTF-8")])
def test_what_lies_inside_is_no_fault_of_the_record(scan: Scans, rest: bytes, around: bytes) -> None:
    """Such a string once put a whole record aside."""
    value = blob(1, around + blob(2, around + blob(2, blob(1, TRACES[0]) + blob(2, SPANS[0]) + rest)))
    (fragment,) = scan(value, Encoding.AUTO).fragments
    assert fragment.payload is value


# Whatever the bytes -------------------------------------------------------------------------------------------------


encodings = st.sampled_from(Encoding)


def spans_seen(value: bytes) -> int:
    data = schema.TracesData.FromString(value)
    return sum(len(scope.spans) for resource in data.resource_spans for scope in resource.scope_spans)


@quick
@given(value=st.binary(max_size=80), encoding=encodings)
@example(value=b"{\x7c", encoding=Encoding.AUTO)  # an empty group 15: the one protobuf message that looks like JSON
def test_arbitrary_bytes_never_raise(value: bytes, encoding: Encoding) -> None:
    for scan in SCANS:
        found = scan(value, encoding)
        assert found.fragments or found.scan_errors


@settings(max_examples=80, deadline=None)
@given(value=damaged(), encoding=encodings)
def test_damaged_records_never_raise_and_lose_nothing(value: bytes, encoding: Encoding) -> None:
    for scan in SCANS:
        found = scan(value, encoding)
        assert found.fragments or found.scan_errors
        if any(error.reason is ScanErrorReason.UNREADABLE for error in found.scan_errors):
            assert payloads(found) == [value]
            if encoding is Encoding.OTLP_PROTO:  # what protobuf reads the splitter reads too
                with pytest.raises(DecodeError):
                    schema.TracesData.FromString(value)
        elif encoding is Encoding.OTLP_PROTO:
            assert sum(map(spans_seen, payloads(found))) == spans_seen(value)


@both
def test_a_batch_of_many_traces_splits_in_linear_time(scan: Scans) -> None:
    # Eight thousand traces in one scope take a tenth of a second; a walk for each of them would take many.
    ids = [number.to_bytes(16, "big") for number in range(1, 8001)]
    scope = b"".join(blob(2, blob(1, trace_id) + blob(2, SPANS[0])) for trace_id in ids)
    found = scan(blob(1, blob(1, b"") + blob(2, scope)), Encoding.AUTO)
    assert [fragment.trace_id for fragment in found.fragments] == ids
    assert all(len(one.payload) == len(two.payload) for one, two in pairwise(found.fragments))


@both
@pytest.mark.parametrize("shape", ["a large resource", "many small fields"])
def test_law_5_a_record_that_would_split_into_far_more_than_itself_is_put_aside(scan: Scans, shape: str) -> None:
    """Else one record of 300 kB takes 800 MB, and the process that is killed for it reads it again."""
    value = small.message([small.span(number, 0) for number in range(3000)])
    if shape == "a large resource":
        data = TracesData.FromString(value)
        data.resource_spans[0].resource.attributes.add(key="k").value.string_value = "v" * 50_000
        value = data.SerializeToString()
    else:
        inner = TracesData.FromString(value).resource_spans[0].SerializeToString() + b"\xa0\x3e\x01" * 20_000
        value = TracesData().SerializeToString() + b"\x0a" + varint(len(inner)) + inner
    began = time.process_time()
    found = scan(value, Encoding.AUTO)
    assert time.process_time() - began < 2
    assert [error.reason for error in found.scan_errors] == [ScanErrorReason.SPLIT_TOO_LARGE]
    assert found.scan_errors[0].payload == value
    assert found.fragments == ()


def test_a_huge_record_is_scanned_while_others_run_python() -> None:
    """From 16 MiB on the GIL is given up. Two threads then find what one does."""
    body = blob(1, TRACES[0]) + blob(2, SPANS[0]) + blob(5, bytes(1 << 24))
    value = blob(1, blob(2, blob(2, body) + blob(2, blob(1, TRACES[1]) + blob(2, SPANS[1]))))
    compiled = scan_of(scanner)
    expected, found = compiled(value, Encoding.AUTO), []
    threads = [threading.Thread(target=lambda: found.append(compiled(value, Encoding.AUTO))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [fragment.spans for fragment in expected.fragments] == [1, 1]
    assert found == [expected] * 2
