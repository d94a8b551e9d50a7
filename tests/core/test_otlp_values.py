"""The values of fields, as the tests of conditions see them. Everything here holds for both scanners."""

import math
import struct
from collections.abc import Sequence

import attrs
import pytest

from tests.core.otlp_records import FIXED64, LENGTH, SPANS, TRACES, VARINT, Scans, blob, both, one_span, tag, varint
from tss.core.conditions.formula import FALSE, TRUE, Compare, Field, Found, Leaf, OfSpans, Place, Truth
from tss.core.conditions.program import Program
from tss.core.otlp import Encoding

Values = tuple[tuple[Found, ...], ...]


@attrs.frozen
class Same:
    """Whether a value is this one, of the same type."""

    wanted: Found

    @property
    def told(self) -> str:
        return f"same {self.wanted!r}"

    def answer(self, value: Found) -> Truth:
        return TRUE if repr(value) == repr(self.wanted) else FALSE


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


# All that a test below may find, or must not.
KNOWN: tuple[Found, ...] = (
    "GET", "", "größer", "\ufffd!", "\ufffd", "1", "a", "b", "c", "x", "good", "first", "later", "other", "another key", "span",
    "scope", "resource", "GET /", "v=1", False, True, *range(-1, 10), 200, 2**63 - 1, 0.5, 1.0, -0.0, 0.0, math.inf, math.nan,
    b"\xff", ["x", None, None], [], {"a": 1}, {"a": 2}, {"a": []}, {}, *(f"{letter}.name" for letter in "abcdefghijklmnop"),
)  # fmt: skip


def values(scan: Scans, value: bytes, *fields: Field) -> Values:
    """By field the values of `KNOWN` that any span of the record has."""
    program = Program([OfSpans(Leaf(field, Same(known))) for field in fields for known in KNOWN])
    (fragment,) = scan(value, Encoding.OTLP_PROTO, program).fragments
    answers = [program.answer(fragment.facts, slot) for slot in range(len(program.asks))]
    each = zip(*[iter(answers)] * len(KNOWN), strict=True)
    return tuple(tuple(known for known, answer in zip(KNOWN, some, strict=True) if answer == TRUE) for some in each)


def keyed(place: Place, key: str) -> Field:
    return Field(place, "attributes", key)


PLAIN = [Field(Place.SPAN, name) for name in ("status.code", "kind", "name", "trace_state")]


def several(raw: Sequence[bytes]) -> bytes:
    """A trace of several spans: of each value a `k`."""
    return resource_spans(b"", b"", *(span(0, attribute(b"k", value)) for value in raw))


def the_value(scan: Scans, value: bytes) -> Found:
    ((found,),) = values(scan, one_span(rest=blob(9, attribute(b"k", value))), keyed(Place.SPAN, "k"))
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
        (blob(5, blob(1, text(b"x")) + blob(1, b"") + blob(1, b"\xff")), ["x", None, None]),
        (blob(6, blob(1, attribute(b"a", whole(1))) + blob(1, attribute(b"a", whole(2)))), {"a": 1}),
        (blob(6, blob(1, attribute(b"a", blob(5, b"")))), {"a": []}),
        (blob(7, b"\xff"), b"\xff"),
        (text(b"the last") + whole(1), 1),
    ],
    ids=repr,
)
def test_each_type_of_value(scan: Scans, raw: bytes, value: Found) -> None:
    found = the_value(scan, raw)
    assert (type(found), found) == (type(value), value)


@both
def test_a_value_that_is_no_number_is_found_once(scan: Scans) -> None:
    ((found,),) = values(scan, several([double(math.nan)] * 2), keyed(Place.SPAN, "k"))
    assert isinstance(found, float)
    assert math.isnan(found)


@both
def test_values_are_told_apart_by_type(scan: Scans) -> None:
    raw = [whole(1), double(1.0), tag(2, VARINT) + b"\x01", text(b"1"), whole(1), double(-0.0), double(0.0), text(b"1")]
    (found,) = values(scan, several(raw), keyed(Place.SPAN, "k"))
    assert sorted(map(repr, found)) == sorted(["1", "1.0", "True", "'1'", "-0.0", "0.0"])


@both
def test_texts_that_differ_only_in_what_is_not_utf8_are_one(scan: Scans) -> None:
    raw = [text(value) for value in (b"\xff", b"\xfe", b"\xff")]
    assert values(scan, several(raw), keyed(Place.SPAN, "k")) == (("\ufffd",),)


@both
def test_each_place_has_its_own(scan: Scans) -> None:
    resource, scope = blob(1, attribute(b"k", text(b"resource"))), blob(3, attribute(b"k", text(b"scope")))
    plain = blob(5, b"GET /") + blob(3, b"v=1") + tag(6, VARINT) + varint(3) + blob(15, tag(3, VARINT) + varint(2))
    value = resource_spans(resource, scope, span(0, attribute(b"k", text(b"span")), rest=plain))
    asks = [keyed(place, "k") for place in (Place.SPAN, Place.SCOPE, Place.RESOURCE)]
    asks += PLAIN
    assert values(scan, value, *asks) == (("span",), ("scope",), ("resource",), (2,), (3,), ("GET /",), ("v=1",))
    assert values(scan, value, keyed(Place.SPAN, "other"), keyed(Place.RESOURCE, "")) == ((), ())
    assert values(scan, value) == ()


@both
def test_fields_that_a_span_does_not_have_are_protobufs_defaults(scan: Scans) -> None:
    assert values(scan, one_span(), *PLAIN) == ((0,), (0,), ("",), ("",))


@both
def test_a_resource_counts_for_the_traces_below_it_wherever_it_stands(scan: Scans) -> None:
    first = resource_spans(blob(1, attribute(b"k", text(b"a"))), b"", span(0), span(1, trace=1))
    resource = blob(1, blob(1, attribute(b"k", text(b"b"))))
    second = blob(1, blob(2, blob(2, span(2))) + resource + blob(1, blob(1, attribute(b"k", text(b"c")))))
    third = resource_spans(blob(1, attribute(b"k", text(b"nobody's"))), b"")
    asked = [OfSpans(Leaf(keyed(Place.RESOURCE, "k"), Compare("==", value))) for value in ("a", "b", "c", "nobody's")]
    program = Program(asked)
    found = scan(first + second + third, Encoding.OTLP_PROTO, program)
    answers = [[program.answer(each.facts, slot) for slot in range(4)] for each in found.fragments]
    assert answers == [[TRUE, TRUE, FALSE, FALSE], [TRUE, FALSE, FALSE, FALSE]]


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
    ask = keyed(Place.SPAN, "k")
    assert values(scan, one_span(rest=blob(9, bad) + blob(9, good)), ask) == (("good",),)
    resource = blob(1, bad) + blob(1, good)
    assert values(scan, resource_spans(resource, b"", span(0)), keyed(Place.RESOURCE, "k")) == (("good",),)


@both
def test_a_resource_that_cannot_be_read_has_no_values(scan: Scans) -> None:
    resource = blob(1, attribute(b"k", text(b"good"))) + b"\xff"
    assert values(scan, resource_spans(resource, b"", span(0)), keyed(Place.RESOURCE, "k")) == ((),)


@both
def test_a_key_is_the_last_and_a_value_is_both(scan: Scans) -> None:
    pair = blob(1, b"k") + blob(2, whole(1)) + blob(1, b"other") + blob(2, b"") + blob(1, b"k")
    assert values(scan, one_span(rest=blob(9, pair)), keyed(Place.SPAN, "k")) == ((1,),)


@both
def test_keys_alike_in_length_and_ending_are_told_apart(scan: Scans) -> None:
    keys = [f"{letter}.name" for letter in "abcdefghijklmnop"]
    rest = b"".join(blob(9, attribute(key.encode(), text(key.encode()))) for key in keys)
    asks = [keyed(Place.SPAN, key) for key in reversed(keys[::2])]
    assert values(scan, one_span(rest=rest), *asks) == tuple((key,) for key in reversed(keys[::2]))


@both
@pytest.mark.parametrize("place", [Place.SPAN, Place.RESOURCE, Place.SCOPE])
def test_of_a_key_given_twice_the_first_counts(scan: Scans, place: Place) -> None:
    """As in the Collector's map, whatever the types."""
    pairs = [attribute(b"k", text(b"first")), attribute(b"j", whole(1)), attribute(b"k", whole(2))]
    own = {Place.SPAN: pairs, Place.RESOURCE: [], Place.SCOPE: []}[place]
    resource = b"".join(blob(1, pair) for pair in pairs)
    scope = b"".join(blob(3, pair) for pair in pairs)
    value = blob(1, blob(1, resource) + blob(2, blob(1, scope) + blob(2, span(0, *own))))
    assert values(scan, value, keyed(place, "k"), keyed(place, "j")) == (("first",), (1,))


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
    assert values(scan, one_span(rest=blob(9, unset) + blob(9, later)), keyed(Place.SPAN, "k")) == ((),)
