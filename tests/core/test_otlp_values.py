"""What policies ask of the spans, found during the scan. Everything here holds for both scanners."""

import math
import struct
from collections.abc import Sequence

import pytest

from tests.core.otlp_records import FIXED64, LENGTH, SPANS, TRACES, VARINT, Scans, blob, both, one_span, tag, varint
from tss.core.otlp import MAX_VALUES, Ask, Encoding, Location, Lookup, Value, Values


def attribute(key: bytes, value: bytes) -> bytes:
    """A KeyValue with a serialized AnyValue."""
    return blob(1, key) + blob(2, value)


def text(value: bytes) -> bytes:
    return blob(1, value)


def whole(value: int) -> bytes:
    return tag(3, VARINT) + varint(value % 2**64)


def double(value: float) -> bytes:
    return tag(4, FIXED64) + struct.pack("<d", value)


def resource_spans(resource: bytes, scope: bytes, *spans: bytes) -> bytes:
    """One with these attributes, each a KeyValue in a list of one."""
    inner = b"".join(blob(2, span) for span in spans)
    return blob(1, (blob(1, resource) if resource else b"") + blob(2, (blob(1, scope) if scope else b"") + inner))


def span(number: int, *attributes: bytes, trace: int = 0, rest: bytes = b"") -> bytes:
    own = b"".join(blob(9, each) for each in attributes)
    return blob(1, TRACES[trace]) + blob(2, SPANS[number]) + own + rest


def values(scan: Scans, value: bytes, *asks: Ask) -> Values:
    (fragment,) = scan(value, Encoding.OTLP_PROTO, Lookup(asks)).fragments
    return fragment.values


def several(raw: Sequence[bytes]) -> bytes:
    """A trace of several spans: of each value a `k`."""
    return resource_spans(b"", b"", *(span(0, attribute(b"k", value)) for value in raw))


def the_value(scan: Scans, value: bytes) -> Value:
    ((found,),) = values(scan, one_span(rest=blob(9, attribute(b"k", value))), Ask(Location.SPAN, "k"))
    return found


@both
@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (text(b"GET"), "GET"),
        (text(b""), ""),
        (text("größer".encode()), "größer"),
        (text(b"\xff!"), "\ufffd!"),
        (tag(2, VARINT) + b"\x00", False),
        (tag(2, VARINT) + varint(2), True),
        (whole(200), 200),
        (whole(-1), -1),
        (whole(2**63 - 1), 2**63 - 1),
        (double(0.5), 0.5),
        (double(math.inf), math.inf),
        (blob(5, blob(1, text(b"x"))), blob(1, text(b"x"))),
        (blob(6, b"a map"), b"a map"),
        (blob(7, b"\xff"), b"\xff"),
        (text(b"the last") + whole(1), 1),
    ],
    ids=repr,
)
def test_each_type_of_value(scan: Scans, raw: bytes, value: Value) -> None:
    found = the_value(scan, raw)
    assert (type(found), found) == (type(value), value)


@both
def test_a_value_that_is_no_number_is_found_once(scan: Scans) -> None:
    ((found,),) = values(scan, several([double(math.nan)] * 2), Ask(Location.SPAN, "k"))
    assert isinstance(found, float)
    assert math.isnan(found)


@both
def test_values_are_told_apart_by_type_and_come_in_order(scan: Scans) -> None:
    raw = [whole(1), double(1.0), tag(2, VARINT) + b"\x01", text(b"1"), whole(1), double(-0.0), double(0.0), text(b"1")]
    (found,) = values(scan, several(raw), Ask(Location.SPAN, "k"))
    assert list(map(repr, found)) == ["1", "1.0", "True", "'1'", "-0.0", "0.0"]


@both
def test_texts_that_differ_only_in_what_is_not_utf8_are_one(scan: Scans) -> None:
    raw = [text(value) for value in (b"\xff", b"\xfe", b"\xff")]
    assert values(scan, several(raw), Ask(Location.SPAN, "k")) == (("\ufffd",),)


@both
def test_each_place_has_its_own(scan: Scans) -> None:
    resource, scope = blob(1, attribute(b"k", text(b"resource"))), blob(3, attribute(b"k", text(b"scope")))
    plain = blob(5, b"GET /") + blob(3, b"v=1") + tag(6, VARINT) + varint(3) + blob(15, tag(3, VARINT) + varint(2))
    value = resource_spans(resource, scope, span(0, attribute(b"k", text(b"span")), rest=plain))
    asks = [Ask(place, "k") for place in (Location.SPAN, Location.SCOPE, Location.RESOURCE)]
    asks += [Ask(place) for place in (Location.STATUS, Location.KIND, Location.NAME, Location.TRACE_STATE)]
    assert values(scan, value, *asks) == (("span",), ("scope",), ("resource",), (2,), (3,), ("GET /",), ("v=1",))
    assert values(scan, value, Ask(Location.SPAN, "other"), Ask(Location.RESOURCE, "")) == ((), ())
    assert values(scan, value) == ()


@both
def test_fields_that_a_span_does_not_have_are_protobufs_defaults(scan: Scans) -> None:
    asks = [Ask(place) for place in (Location.STATUS, Location.KIND, Location.NAME, Location.TRACE_STATE)]
    assert values(scan, one_span(), *asks) == ((0,), (0,), ("",), ("",))


@both
def test_a_resource_counts_for_the_traces_below_it_wherever_it_stands(scan: Scans) -> None:
    first = resource_spans(blob(1, attribute(b"k", text(b"a"))), b"", span(0), span(1, trace=1))
    resource = blob(1, blob(1, attribute(b"k", text(b"b"))))
    second = blob(1, blob(2, blob(2, span(2))) + resource + blob(1, blob(1, attribute(b"k", text(b"c")))))
    third = resource_spans(blob(1, attribute(b"k", text(b"nobody's"))), b"")
    found = scan(first + second + third, Encoding.OTLP_PROTO, Lookup((Ask(Location.RESOURCE, "k"),)))
    assert [fragment.values for fragment in found.fragments] == [(("a", "b"),), (("a",),)]


@both
@pytest.mark.parametrize(
    "bad",
    [
        b"",
        blob(1, b"k") + blob(2, b"\x0a"),
        attribute(b"k", text(b"x")) + b"\xff",
        attribute(b"k", text(b"x")) + blob(1, b"another key"),
        attribute(b"k", whole(1) + b"\x0b" * 101 + b"\x0c" * 101),
    ],
)
def test_an_attribute_that_cannot_be_read_has_no_value(scan: Scans, bad: bytes) -> None:
    """The record is good all the same, and so is the next of that name."""
    good = attribute(b"k", text(b"good"))
    ask = Ask(Location.SPAN, "k")
    assert values(scan, one_span(rest=blob(9, bad) + blob(9, good)), ask) == (("good",),)
    resource = blob(1, bad) + blob(1, good)
    assert values(scan, resource_spans(resource, b"", span(0)), Ask(Location.RESOURCE, "k")) == (("good",),)


@both
def test_a_resource_that_cannot_be_read_has_no_values(scan: Scans) -> None:
    resource = blob(1, attribute(b"k", text(b"good"))) + b"\xff"
    assert values(scan, resource_spans(resource, b"", span(0)), Ask(Location.RESOURCE, "k")) == ((),)


@both
def test_a_key_is_the_last_and_a_value_is_both(scan: Scans) -> None:
    pair = blob(1, b"k") + blob(2, whole(1)) + blob(1, b"other") + blob(2, b"") + blob(1, b"k")
    assert values(scan, one_span(rest=blob(9, pair)), Ask(Location.SPAN, "k")) == ((1,),)


@both
def test_keys_alike_in_length_and_ending_are_told_apart(scan: Scans) -> None:
    keys = [f"{letter}.name" for letter in "abcdefghijklmnop"]
    rest = b"".join(blob(9, attribute(key.encode(), text(key.encode()))) for key in keys)
    asks = [Ask(Location.SPAN, key) for key in reversed(keys[::2])]
    assert values(scan, one_span(rest=rest), *asks) == tuple((key,) for key in reversed(keys[::2]))


@both
def test_no_more_than_the_most_values_are_kept(scan: Scans) -> None:
    raw = [whole(number) for number in range(3 * MAX_VALUES)]
    assert values(scan, several(raw), Ask(Location.SPAN, "k")) == (tuple(range(MAX_VALUES)),)


@both
@pytest.mark.parametrize("place", [Location.SPAN, Location.RESOURCE, Location.SCOPE])
def test_of_a_key_given_twice_the_first_counts(scan: Scans, place: Location) -> None:
    """As in the Collector's map, whatever the types."""
    pairs = [attribute(b"k", text(b"first")), attribute(b"j", whole(1)), attribute(b"k", whole(2))]
    own = {Location.SPAN: pairs, Location.RESOURCE: [], Location.SCOPE: []}[place]
    resource = b"".join(blob(1, pair) for pair in pairs)
    scope = b"".join(blob(3, pair) for pair in pairs)
    value = blob(1, blob(1, resource) + blob(2, blob(1, scope) + blob(2, span(0, *own))))
    assert values(scan, value, Ask(place, "k"), Ask(place, "j")) == (("first",), (1,))


@both
@pytest.mark.parametrize(
    "unset",
    [
        blob(1, b"k"),
        blob(1, b"k") + blob(2, b""),
        blob(1, b"k") + blob(2, tag(1, VARINT) + b"\x01"),
        blob(1, b"k") + blob(2, tag(12, LENGTH) + b"\x00"),
    ],
)
def test_the_first_of_a_key_counts_without_a_value_too(scan: Scans, unset: bytes) -> None:
    later = attribute(b"k", text(b"later"))
    assert values(scan, one_span(rest=blob(9, unset) + blob(9, later)), Ask(Location.SPAN, "k")) == ((),)
