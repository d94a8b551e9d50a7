"""OTLP JSON: what it reads is what protobuf would have carried, and what it writes it reads again."""

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from tss.core.otlp import Encoding, Fragment, ScanErrorReason, scan, to_json_line

TRACE_ID = bytes.fromhex("5b8efff798038103d269b633813fc60c")
SPAN_ID = bytes.fromhex("eee19b7ec3c1b174")

# As the Collector's file exporter and its Kafka exporter (`otlp_json`) write it.
COLLECTOR = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "my.library", "version": "1.0.0"},
                    "spans": [
                        {
                            "traceId": "5b8efff798038103d269b633813fc60c",
                            "spanId": "eee19b7ec3c1b174",
                            "traceState": "ot=th:8",
                            "parentSpanId": "eee19b7ec3c1b173",
                            "flags": 257,
                            "name": "I'm a server span ☃",
                            "kind": 2,
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": "1544712661000000000",
                            "attributes": [
                                {"key": "string", "value": {"stringValue": ""}},
                                {"key": "bool", "value": {"boolValue": False}},
                                {"key": "int", "value": {"intValue": "-9223372036854775808"}},
                                {"key": "double", "value": {"doubleValue": 0.1}},
                                {"key": "bytes", "value": {"bytesValue": "3q2+7w=="}},
                                {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "0"}, {}]}}},
                                {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k"}]}}},
                            ],
                            "events": [{"timeUnixNano": "1544712660500000000", "name": "exception"}],
                            "links": [{"traceId": "00000000000000000000000000000001", "spanId": "0000000000000002"}],
                            "status": {"message": "boom", "code": 2},
                        }
                    ],
                    "schemaUrl": "https://opentelemetry.io/schemas/1.26.0",
                }
            ],
        }
    ]
}


def the_fragment(document: Any) -> Fragment:
    found = scan(json.dumps(document).encode(), Encoding.OTLP_JSON)
    assert found.scan_errors == ()
    (fragment,) = found.fragments
    return fragment


def the_span(fragment: Fragment) -> Span:
    span: Span = TracesData.FromString(fragment.payload).resource_spans[0].scope_spans[0].spans[0]
    return span


def with_span(**changes: Any) -> dict[str, Any]:
    span = {"traceId": TRACE_ID.hex(), "spanId": SPAN_ID.hex(), **changes}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def test_collector_json_is_read() -> None:
    fragment = the_fragment(COLLECTOR)
    assert fragment.trace_id == TRACE_ID
    assert (fragment.spans, fragment.errors, fragment.has_root) == (1, 1, False)
    assert (fragment.start_ns, fragment.end_ns) == (1544712660000000000, 1544712661000000000)
    assert fragment.span_ids == SPAN_ID
    assert fragment.missing == bytes.fromhex("eee19b7ec3c1b173")
    span = the_span(fragment)
    assert span.links[0].trace_id == (1).to_bytes(16, "big")
    assert span.links[0].span_id == (2).to_bytes(8, "big")
    assert span.attributes[4].value.bytes_value == b"\xde\xad\xbe\xef"


def test_collector_json_is_written_as_it_was() -> None:
    line = to_json_line(the_fragment(COLLECTOR).payload)
    assert json.loads(line) == COLLECTOR


def test_a_line_is_one_line() -> None:
    line = to_json_line(the_fragment(with_span(name="a\nb\r\u2028c\u0085")).payload)
    assert line.endswith(b"}\n")
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] == "a\nb\r\u2028c\u0085"


def test_ids_are_read_in_either_case_and_keys_in_either_style() -> None:
    snake = {"trace_id": TRACE_ID.hex().upper(), "span_id": SPAN_ID.hex().upper(), "parent_span_id": "00" * 8}
    fragment = the_fragment({"resource_spans": [{"scope_spans": [{"spans": [snake]}]}]})
    assert (fragment.trace_id, fragment.span_ids, fragment.has_root) == (TRACE_ID, SPAN_ID, True)


def test_numbers_may_stand_for_texts_and_names_for_enums() -> None:
    span = the_span(the_fragment(with_span(startTimeUnixNano=1544712660000000001, kind="SPAN_KIND_CLIENT")))
    assert (span.start_time_unix_nano, span.kind) == (1544712660000000001, Span.SPAN_KIND_CLIENT)


def test_unknown_fields_are_ignored() -> None:
    document = with_span(futureField={"traceId": "not an id"}, kind=2)
    document["instrumentationLibrarySpans"] = [1, None]
    assert the_span(the_fragment(document)).kind == 2


def test_a_missing_parent_may_be_empty_or_null() -> None:
    assert the_fragment(with_span(parentSpanId="")).has_root
    assert the_fragment(with_span(parentSpanId=None)).has_root


def test_auto_tells_json_by_its_brace() -> None:
    value = json.dumps(COLLECTOR).encode()
    assert scan(value, Encoding.AUTO) == scan(value, Encoding.OTLP_JSON)
    assert scan(b" \n" + value, Encoding.OTLP_JSON) == scan(value, Encoding.OTLP_JSON)
    assert scan(value, Encoding.OTLP_PROTO).scan_errors[0].reason is ScanErrorReason.UNREADABLE


@pytest.mark.parametrize("text", ["zz", "W47/95gDgQPSabYzgd/GDA==", "5b8e", "x" * 16, " " + TRACE_ID.hex(), "\ud800"])
@pytest.mark.parametrize(
    ("key", "reason"), [("traceId", ScanErrorReason.INVALID_TRACE_ID), ("spanId", ScanErrorReason.INVALID_SPAN_ID)]
)
def test_an_id_that_is_no_hex_fails_its_span_alone(key: str, reason: ScanErrorReason, text: str) -> None:
    document = with_span()
    document["resourceSpans"] += with_span(**{key: text})["resourceSpans"]
    found = scan(json.dumps(document).encode(), Encoding.AUTO)
    assert [fragment.span_ids for fragment in found.fragments] == [SPAN_ID]
    (error,) = found.scan_errors
    assert error.reason is reason
    assert error.detail.startswith("1 of 2 spans")
    error.detail.encode()
    (bad,) = TracesData.FromString(error.payload).resource_spans[0].scope_spans[0].spans
    if text != "5b8e":
        assert text.encode("utf-8", "backslashreplace") in (bad.trace_id, bad.span_id)[key == "spanId"]


@pytest.mark.parametrize(
    "document",
    [
        with_span(parentSpanId="zz"),
        with_span(links=[{"traceId": "zz"}]),
        with_span(traceId=5),
        with_span(startTimeUnixNano="\ud800"),
        with_span(startTimeUnixNano="-1"),
        with_span(startTimeUnixNano=2**64),
        {"resourceSpans": 1},
        {"resourceSpans": [[1]]},
        [],
        None,
        "text",
        7,
    ],
    ids=str,
)
def test_json_that_is_no_otlp_is_unreadable(document: Any) -> None:
    value = json.dumps(document).encode()
    found = scan(value, Encoding.OTLP_JSON)
    assert [(error.reason, error.payload) for error in found.scan_errors] == [(ScanErrorReason.UNREADABLE, value)]
    assert found.fragments == ()
    assert 0 < len(found.scan_errors[0].detail.encode()) <= 2000


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"\xff",
        b'{"resourceSpans":' + b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"resourceSpans":[{"a":' + b"9" * 10_000 + b"}]}",
        b"{}{}",
    ],
    ids=lambda value: repr(value[:20]),
)
def test_text_that_is_no_json_is_unreadable(value: bytes) -> None:
    found = scan(value, Encoding.OTLP_JSON)
    assert [(error.reason, error.payload) for error in found.scan_errors] == [(ScanErrorReason.UNREADABLE, value)]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"intValue": "1"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return with_span(attributes=[{"key": "k", "value": value}])


def test_nesting_is_read_as_deep_as_opentelemetry_allows() -> None:
    assert json.loads(to_json_line(the_fragment(nested(64)).payload)) == nested(64)
    too_deep = scan(json.dumps(nested(65)).encode(), Encoding.AUTO)
    assert [error.reason for error in too_deep.scan_errors] == [ScanErrorReason.UNREADABLE]
    assert "values nested more than 64 deep" in too_deep.scan_errors[0].detail


# There and back -----------------------------------------------------------------------------------------------------

texts = st.text(max_size=4)
doubles = st.floats().map(lambda value: math.nan if math.isnan(value) else value)  # JSON has one NaN only
leaves = st.one_of(
    st.builds(AnyValue),
    st.builds(AnyValue, string_value=texts),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(AnyValue, double_value=doubles),
    st.builds(AnyValue, bytes_value=st.binary(max_size=4)),
)


def nest(inner: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[AnyValue]:
    pairs = st.builds(KeyValue, key=texts, value=inner)
    return st.builds(AnyValue, array_value=st.builds(ArrayValue, values=st.lists(inner, max_size=2))) | st.builds(
        AnyValue, kvlist_value=st.builds(KeyValueList, values=st.lists(pairs, max_size=2))
    )


attributes = st.lists(st.builds(KeyValue, key=texts, value=st.recursive(leaves, nest, max_leaves=3)), max_size=2)
nanos = st.integers(0, 2**64 - 1)
spans = st.builds(
    Span,
    trace_id=st.just(TRACE_ID),
    span_id=st.binary(min_size=8, max_size=8).filter(any),
    parent_span_id=st.sampled_from((b"", bytes(8), SPAN_ID)),
    trace_state=texts,
    flags=st.integers(0, 2**32 - 1),
    name=texts,
    kind=st.integers(-1, 7),
    start_time_unix_nano=nanos,
    end_time_unix_nano=nanos,
    attributes=attributes,
    dropped_attributes_count=st.integers(0, 2**32 - 1),
    events=st.lists(st.builds(Span.Event, time_unix_nano=nanos, name=texts, attributes=attributes), max_size=1),
    links=st.lists(st.builds(Span.Link, trace_id=st.binary(max_size=17), span_id=st.binary(max_size=9)), max_size=1),
    status=st.none() | st.builds(Status, code=st.sampled_from((0, 1, 2)), message=texts),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(spans, min_size=1, max_size=3), texts)
def test_json_and_protobuf_carry_the_same(some: list[Span], url: str) -> None:
    scope = ScopeSpans(spans=some, schema_url=url)
    message = TracesData(resource_spans=[ResourceSpans(scope_spans=[scope])]).SerializeToString(deterministic=True)
    (direct,) = scan(message, Encoding.AUTO).fragments
    line = to_json_line(message)
    (through_json,) = scan(line, Encoding.AUTO).fragments
    assert through_json == direct
    assert to_json_line(through_json.payload) == line


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (-0.0, -0.0)]
)
def test_doubles_that_json_cannot_write_are_texts(value: float, text: object) -> None:
    document = with_span(attributes=[{"key": "k", "value": {"doubleValue": text}}])
    fragment = the_fragment(document)
    assert repr(the_span(fragment).attributes[0].value.double_value) == repr(value)
    assert json.loads(to_json_line(fragment.payload)) == document


def test_bytes_stay_base64_though_they_look_like_hex() -> None:
    text = "deadbeef"
    fragment = the_fragment(with_span(attributes=[{"key": "traceId", "value": {"bytesValue": text}}]))
    assert the_span(fragment).attributes[0].value.bytes_value == base64.b64decode(text)


# What the Collector reads --------------------------------------------------------------------------------------------


def the_text_span(members: str) -> Span:
    """A span with these members, as they stand in the JSON text."""
    own = f'"traceId":"{TRACE_ID.hex()}","spanId":"{SPAN_ID.hex()}"'
    found = scan(f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{own},{members}}}]}}]}}]}}'.encode(), Encoding.AUTO)
    assert found.scan_errors == ()
    return the_span(found.fragments[0])


def the_value(members: str) -> AnyValue:
    return the_text_span(f'"attributes":[{{"key":"k","value":{{{members}}}}}]').attributes[0].value


@pytest.mark.parametrize(
    ("members", "name"),
    [
        (r'"name":"hi \ud83d"', "hi \ufffd"),
        (r'"name":"\ude00\ud83d"', "\ufffd\ufffd"),
        (r'"name":"\ud83d\ude00"', "\U0001f600"),
        ('"name":"a\nb\tc"', "a\nb\tc"),
        ('"name":null', ""),
        ('"name":"a","name":"b"', "b"),
        ('"name":"a","name":""', ""),
        ('"":1,"name":"later"', "later"),
    ],
)
def test_texts_as_the_collector_reads_them(members: str, name: str) -> None:
    assert the_text_span(members).name == name


def test_bytes_that_are_not_utf8_are_read_in_json() -> None:
    value = json.dumps(with_span(name="caf?")).encode().replace(b"?", b"\xc3")
    (fragment,) = scan(value, Encoding.AUTO).fragments
    assert the_span(fragment).name == "caf\ufffd"


@pytest.mark.parametrize(
    ("members", "value"),
    [
        ('"stringValue":"a","intValue":"5"', AnyValue(int_value=5)),
        ('"intValue":"5","stringValue":"a"', AnyValue(string_value="a")),
        ('"intValue":"5","stringValue":null', AnyValue(string_value="")),
        ('"stringValue":null', AnyValue(string_value="")),
        ('"arrayValue":null', AnyValue(array_value=ArrayValue())),
        ('"arrayValue":{"values":null}', AnyValue(array_value=ArrayValue())),
        ('"arrayValue":{"values":[null]}', AnyValue(array_value=ArrayValue(values=[AnyValue()]))),
        ('"arrayValue":{"values":[{"intValue":1}]},"arrayValue":{"values":[]}', AnyValue(array_value=ArrayValue())),
        ('"int_value":7', AnyValue(int_value=7)),
        ('"doubleValue":"1e3"', AnyValue(double_value=1000)),
        ('"doubleValue":"-Infinity"', AnyValue(double_value=-math.inf)),
        ('"bytesValue":"_-8="', AnyValue(bytes_value=b"\xff\xef")),
        ('"bytesValue":"AQI"', AnyValue(bytes_value=b"\x01\x02")),
        ('"other":{"x":[1]}', AnyValue()),
    ],
)
def test_values_as_the_collector_reads_them(members: str, value: AnyValue) -> None:
    assert the_value(members) == value


def test_lists_given_twice_are_one_and_so_are_objects() -> None:
    span = the_text_span(
        '"attributes":[{"key":"a"}],"attributes":[{"key":"b"}],"status":{"code":2},"status":{"message":"m"}'
    )
    assert [pair.key for pair in span.attributes] == ["a", "b"]
    assert span.status == Status(code=Status.STATUS_CODE_ERROR, message="m")


@pytest.mark.parametrize(
    "members", ['"attributes":null', '"kind":null,"status":null', '"events":null,"links":null', '"flags":null']
)
def test_null_is_a_field_that_is_not_there(members: str) -> None:
    assert the_text_span(members) == the_span(the_fragment(with_span()))


@pytest.mark.parametrize(
    ("field", "member"),
    [
        ("kind", "1.5"),
        ("kind", '"SERVER"'),
        ("kind", "true"),
        ("flags", "-1"),
        ("flags", "4294967296"),
        ("startTimeUnixNano", '"1.5"'),
        ("name", "7"),
        ("name", "[]"),
        ("attributes", "{}"),
        ("intValue", "9223372036854775808"),
        ("intValue", '"NaN"'),
        ("boolValue", '"true"'),
        ("bytesValue", '"%"'),
    ],
)
def test_what_the_collector_refuses_is_refused_by_the_name_of_its_field(field: str, member: str) -> None:
    members = f'"{field}":{member}'
    if field.endswith("Value"):
        members = f'"attributes":[{{"key":"k","value":{{{members}}}}}]'
    value = json.dumps(with_span()).encode().replace(b'"spanId"', f'{members},"spanId"'.encode())
    (error,) = scan(value, Encoding.AUTO).scan_errors
    assert error.reason is ScanErrorReason.UNREADABLE
    assert error.detail.startswith(f"not OTLP JSON: {field}: ")


@pytest.mark.parametrize("space", [b" ", b"\t", b"\r\n", b"\n", b"\n\n  ", b" \n\t\r"])
def test_space_may_stand_before_json(space: bytes) -> None:
    """A line end is also how an OTLP message in protobuf begins."""
    for indent in (None, 2):
        value = json.dumps(COLLECTOR, indent=indent).encode()
        assert scan(space + value, Encoding.AUTO) == scan(value, Encoding.OTLP_JSON)


@pytest.mark.parametrize("letter", "{ \n\r\t")
def test_protobuf_that_begins_like_json_is_protobuf(letter: str) -> None:
    """The length of a first message may be that of a brace, or of a space."""
    body = ResourceSpans(schema_url="x" * (ord(letter) - 2)).SerializeToString()
    assert len(body) == ord(letter)
    value = b"\n" + letter.encode() + body + the_fragment(with_span()).payload
    found = scan(value, Encoding.AUTO)
    assert [fragment.payload for fragment in found.fragments] == [value]
    assert found.scan_errors == ()
