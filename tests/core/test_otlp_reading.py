"""What the scanner lets through every reader reads: strictness is decided once."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from fuzz.comparing import compare, read
from fuzz.making import Maker, mutated
from tests.core.otlp_records import SPANS, TRACES, Scans, blob, both, one_span
from tests.edges.traces import trace_of
from tss.core.conditions.formula import TRUE, Compare, Field, Leaf, OfSpans, Place
from tss.core.conditions.program import Program
from tss.core.formats.apm_stats import concentrator
from tss.core.formats.apm_stats import reference as plain_statistics
from tss.core.formats.datadog.trace import to_spans
from tss.core.formats.parquet_rows import rows
from tss.core.formats.spanmetrics import Dimension, Shape, counting
from tss.core.formats.spanmetrics import reference as plain_spanmetrics
from tss.core.otlp import Encoding, ScanErrorReason, join, scan, to_json_line
from tss.core.otlp.nesting import DEEP_BYTES, MAX_VALUE_DEPTH
from tss.core.otlp.reading import Readable

NOW_NS = 1_760_000_000 * 10**9


def text(value: bytes) -> bytes:
    return blob(1, value)


def attribute(key: bytes, value: bytes) -> bytes:
    return blob(1, key) + blob(2, value)


def in_arrays(depth: int, value: bytes = blob(1, b"x")) -> bytes:
    for _ in range(depth):
        value = blob(5, blob(1, value))
    return value


def in_maps(depth: int, value: bytes = blob(1, b"x")) -> bytes:
    for _ in range(depth):
        value = blob(6, blob(1, blob(1, b"k") + blob(2, value)))
    return value


def placed(place: str, pair: bytes) -> bytes:
    """A message of one span with an attribute in this place."""
    own = {
        "span": blob(9, pair), "event": blob(11, blob(2, b"e") + blob(3, pair)), "link": blob(13, blob(4, pair)),
    }.get(place, b"")  # fmt: skip
    resource = blob(1, blob(1, pair)) if place == "resource" else b""
    scope = blob(1, blob(3, pair)) if place == "scope" else b""
    span = blob(2, blob(1, TRACES[0]) + blob(2, SPANS[0]) + blob(5, b"name") + own)
    return blob(1, resource + blob(2, scope + span))


places = pytest.mark.parametrize("place", ["span", "event", "link", "resource", "scope"])


def everything(payload: bytes) -> dict[str, str]:
    """What each destination would send of one span, as text."""
    (row,) = rows(trace_of([payload], TRACES[0]))
    row = {key: value for key, value in row.items() if not isinstance(value, bytes)}
    return {
        "datadog": repr(to_spans(payload)),
        "file": to_json_line(payload).decode().encode().decode("unicode_escape"),
        "parquet": repr(row),
    }


@places
def test_text_that_is_not_utf8_is_sent_by_every_destination(place: str) -> None:
    """`cafè` cut after its first byte, as SDKs cut by bytes: U+FFFD where text is read, the bytes where they are sent."""
    payload = placed(place, attribute(b"k", text(b"caf\xc3")))
    with pytest.raises(DecodeError):
        TracesData.FromString(payload)
    (fragment,) = scan(payload, Encoding.AUTO).fragments
    assert join([fragment.payload]) == payload  # law 6
    for destination, sent in everything(payload).items():
        assert "caf\ufffd" in sent, destination


@pytest.mark.parametrize("field", [3, 5, 9])
def test_every_text_of_a_span_may_be_cut(field: int) -> None:
    rest = blob(field, attribute(b"caf\xc3", text(b"x")) if field == 9 else b"caf\xc3")
    for destination, sent in everything(one_span(rest=rest)).items():
        assert "caf\ufffd" in sent, destination


@pytest.mark.parametrize("module", [concentrator, plain_statistics])
def test_statistics_count_spans_with_such_text_and_all_later_ones(module: Any) -> None:
    """A failure was remembered under the attributes that name a series, and this text is in none of them."""
    made = module.Concentrator(NOW_NS)
    bad = placed("span", attribute(b"k", text(b"caf\xc3")))
    good = placed("span", attribute(b"k", text(b"caf\xc3\xa9")))
    for payload in (bad, good, bad, placed("event", attribute(b"k", text(b"\xff"))), good):
        made.add(TRACES[0], [payload], False)
    assert (made.spans, made.counted, made.unreadable) == (5, 5, 0)
    assert [group.hits for group in made.take(NOW_NS)] == [5]


@pytest.mark.parametrize("module", [counting, plain_spanmetrics])
def test_span_metrics_count_spans_with_such_text(module: Any) -> None:
    metrics = module.SpanMetrics(Shape((Dimension("k"),)))
    metrics.add(TRACES[0], [placed("span", attribute(b"k", text(b"caf\xc3")))], True)
    assert [labels[-1] for labels in metrics.labels][-1] == "caf\ufffd"


# How deep -----------------------------------------------------------------------------------------------------------


@both
@places
@pytest.mark.parametrize("nest", [in_arrays, in_maps])
def test_values_are_read_as_deep_as_opentelemetry_allows(scan: Scans, nest: Callable[[int], bytes], place: str) -> None:
    deepest = placed(place, attribute(b"k", nest(MAX_VALUE_DEPTH)))
    found = scan(deepest, Encoding.OTLP_PROTO)
    assert [fragment.payload for fragment in found.fragments] == [deepest]
    for destination, sent in everything(deepest).items():
        assert "x" in sent.replace("TextureMax", ""), destination
    line = to_json_line(deepest)
    assert line.count(b'"arrayValue"') + line.count(b'"kvlistValue"') == MAX_VALUE_DEPTH
    assert scan(line, Encoding.AUTO).fragments == found.fragments


@both
@places
@pytest.mark.parametrize("nest", [in_arrays, in_maps])
def test_deeper_values_are_refused_by_the_scan(scan: Scans, nest: Callable[[int], bytes], place: str) -> None:
    too_deep = placed(place, attribute(b"k", nest(MAX_VALUE_DEPTH + 1)))
    found = scan(too_deep, Encoding.OTLP_PROTO)
    assert found.fragments == ()
    ((reason, detail),) = [(error.reason, error.detail) for error in found.scan_errors]
    assert reason is ScanErrorReason.UNREADABLE
    assert detail.startswith("values nested more than 64 deep")


def test_nothing_too_deep_is_so_short_that_nobody_looks() -> None:
    """The shortest that is too deep: empty arrays, and no key."""
    shortest = blob(2, in_arrays(MAX_VALUE_DEPTH, blob(5, b"")))
    assert len(shortest) > DEEP_BYTES
    compare(one_span(rest=blob(9, shortest)), 0)
    assert scan(one_span(rest=blob(9, shortest)), Encoding.OTLP_PROTO).fragments == ()


def test_a_value_that_is_wide_is_not_deep() -> None:
    wide = blob(5, b"".join(blob(1, in_arrays(30)) for _ in range(2000)))
    assert scan(one_span(rest=blob(9, attribute(b"k", wide))), Encoding.OTLP_PROTO).scan_errors == ()


# What protobuf cannot read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "kept"),
    [
        (blob(9, b"\x0a\xff") + blob(9, attribute(b"k", text(b"good"))), "good"),
        (blob(9, attribute(b"k", b"\x0a\xff")) + blob(9, attribute(b"k", text(b"good"))), "good"),
        (blob(9, attribute(b"k", blob(5, b"\x0a\xff"))) + blob(9, attribute(b"j", text(b"good"))), "good"),
        (blob(11, b"\xff") + blob(11, blob(2, b"good")), "good"),
        (blob(13, b"\xff") + blob(13, blob(3, b"good")), "good"),
    ],
)
def test_what_is_broken_inside_is_left_out_and_the_rest_is_there(rest: bytes, kept: str) -> None:
    payload = one_span(rest=rest)
    (fragment,) = scan(payload, Encoding.OTLP_PROTO).fragments
    read((fragment,))
    for destination, sent in everything(payload).items():
        assert kept in sent, destination


@settings(max_examples=150, deadline=None)
@given(st.integers(), st.integers(0, 4))
def test_all_that_the_scan_lets_through_is_read_by_all(seed: int, mutations: int) -> None:
    rng = Random(seed)
    value = Maker(rng).message()
    for _ in range(mutations):
        value = mutated(rng, value, value)
    read(compare(value, 2))


@settings(max_examples=150, deadline=None)
@given(st.integers(), st.integers(0, 2))
def test_the_lenient_reader_reads_what_protobuf_reads(seed: int, mutations: int) -> None:
    rng = Random(seed)
    value = Maker(rng).message()
    for _ in range(mutations):
        value = mutated(rng, value, value)
    try:
        strict = TracesData.FromString(value)
    except DecodeError:
        return
    leniently = Readable(TracesData.DESCRIPTOR, value)
    assert repr(listed(leniently)) == repr(listed(strict))


def listed(message: Any) -> Any:
    """All fields that a message says it has, and what of its oneof is set."""
    fields = message.ListFields()
    oneof = message.WhichOneof("value") if any(field.containing_oneof for field, _ in fields) else None
    return [oneof, *((field.name, told(field, value)) for field, value in fields)]


def told(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is None:
        return list(value) if isinstance(field.default_value, list) else value
    return [listed(each) for each in value] if isinstance(field.default_value, list) else listed(value)


# Of a key given twice the first counts ------------------------------------------------------------------------------


def test_the_first_of_a_key_counts_in_every_destination() -> None:
    pairs = blob(9, attribute(b"k", text(b"first"))) + blob(9, attribute(b"k", text(b"second")))
    sent = everything(one_span(rest=pairs))
    assert "first" in sent["datadog"]
    assert "first" in sent["parquet"]
    assert "second" not in sent["datadog"] + sent["parquet"]
    assert sent["file"].count('"k"') == 2  # OTLP as it came


def test_the_first_of_a_key_counts_within_a_map() -> None:
    inner = blob(1, attribute(b"a", text(b"first"))) + blob(1, attribute(b"a", text(b"second")))
    (span,) = to_spans(one_span(rest=blob(9, attribute(b"k", blob(6, inner)))))
    assert json.loads(span["meta"]["k"]) == {"a": "first"}


def test_the_first_of_a_key_counts_in_a_condition() -> None:
    pairs = blob(9, attribute(b"k", text(b"first"))) + blob(9, attribute(b"k", text(b"second")))
    program = Program([OfSpans(Leaf(Field(Place.SPAN, "attributes", "k"), Compare("==", "first")))])
    (fragment,) = scan(one_span(rest=pairs), Encoding.OTLP_PROTO, program).fragments
    assert program.answer(fragment.facts, 0) == TRUE


@pytest.mark.parametrize("module", [counting, plain_spanmetrics])
def test_the_first_of_a_key_counts_in_span_metrics(module: Any) -> None:
    """As a dimension, and as the rate of the head sampler."""
    rate = [attribute(b"_sample_rate", b"\x21" + struct.pack("<d", value)) for value in (0.5, 0.25)]
    pairs = [attribute(b"k", text(b"first")), attribute(b"k", text(b"second")), *rate]
    metrics = module.SpanMetrics(Shape((Dimension("k"),)))
    metrics.add(TRACES[0], [one_span(rest=b"".join(blob(9, pair) for pair in pairs))], False)
    assert metrics.labels[-1][-1] == "first"
    assert sum(metrics.point(len(metrics.labels) - 1).counts) == 2


@pytest.mark.parametrize("module", [concentrator, plain_statistics])
def test_the_first_of_a_key_counts_in_statistics(module: Any) -> None:
    rate = [attribute(b"_sample_rate", b"\x21" + struct.pack("<d", value)) for value in (0.5, 0.25)]
    pairs = [attribute(b"service.name", text(b"first")), attribute(b"service.name", text(b"second")), *rate]
    made = module.Concentrator(NOW_NS)
    made.add(TRACES[0], [one_span(rest=b"".join(blob(9, pair) for pair in pairs))], False)
    (group,) = made.take(NOW_NS)
    assert (group.name.service, group.hits) == ("first", 2)
    made.add(TRACES[0], [one_span(rest=blob(9, attribute(b"_sample_rate", b"")) + blob(9, rate[0]))], False)
    assert [group.hits for group in made.take(NOW_NS)] == [1]  # the first says nothing


# Numbers that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e300])
@pytest.mark.parametrize(
    "key", [b"http.status_code", b"http.response.status_code", b"rpc.grpc.status_code", b"_sample_rate"]
)
def test_numbers_that_are_none_are_sent_by_every_destination(key: bytes, number: float) -> None:
    """A failed span's message is made of HTTP's status code, which a client may have sent as any double."""
    pair = attribute(key, b"\x21" + struct.pack("<d", number))
    payload = one_span(rest=blob(9, pair) + blob(15, b"\x18\x02"))
    assert set(everything(payload)) == {"datadog", "file", "parquet"}
    for module in (concentrator, plain_statistics):
        made = module.Concentrator(NOW_NS)
        made.add(TRACES[0], [payload], True)
        assert (made.counted, len(made.take(NOW_NS))) == (1, 1)
