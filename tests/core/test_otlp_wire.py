"""The splitter by itself: what it refuses, where it says that was, and what it leaves alone."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tss.core.otlp.wire import WireError, fields, halve, join, split


def blob(number: int, body: bytes) -> bytes:
    assert number < 16
    assert len(body) < 128
    return bytes([number << 3 | 2, len(body)]) + body


A, B = blob(2, b"span a"), blob(2, b"span b")


def in_one_scope(*spans: bytes) -> bytes:
    return blob(1, blob(2, b"".join(spans)))


def test_fields_are_found_whole() -> None:
    message = b"\x08\x96\x01" + b"\x11eightbyt" + b"\x1a\x02ab" + b"\x23\x08\x01\x2b\x2c\x24" + b"\x2dfour"
    starts = [0, 3, 12, 16, 22, 27]
    found = list(fields(message, 0, len(message)))
    assert [(start, stop) for _, start, _, stop in found] == list(pairwise(starts))
    assert [tag >> 3 for tag, *_ in found] == [1, 2, 3, 4, 5]
    assert message[found[2][2] : found[2][3]] == b"ab"


def test_groups_nest_as_deep_as_protobuf_reads_them() -> None:
    message = b"\x23" * 100 + b"\x24" * 100
    assert len(list(fields(message, 0, len(message)))) == 1
    with pytest.raises(WireError, match="nested"):
        list(fields(b"\x23" * 100_000 + b"\x24" * 100_000, 0, 200_000))


@pytest.mark.parametrize(
    ("message", "offset", "complaint"),
    [
        (b"\x08", 1, "a varint without an end"),
        (b"\x08\x01\x08\x80", 3, "a varint without an end"),
        (b"\x08" + b"\x80" * 10 + b"\x01", 1, "a varint without an end"),
        (b"\x08\x01\x00", 2, "impossible tag 0"),
        (b"\x88\x80\x80\x80\x80\x01", 0, "impossible tag or length 34359738376"),
        (b"\x08\x01\x0a\x05abc", 2, "a field that ends 2 bytes too late"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 1, "impossible tag or length"),
        (b"\x09seven..", 0, "a field that ends 1 bytes too late"),
        (b"\x0dfou", 0, "a field that ends 1 bytes too late"),
        (b"\x08\x01\x0c", 2, "never opened"),
        (b"\x0b\x08\x01", 0, "never closed"),
        (b"\x0b\x1a\x09abc", 0, "never closed"),
        (b"\x0b\x14", 1, "another group"),
        (b"\x0e", 0, "unknown wire type 6"),
        (b"\x0b\x0f", 1, "unknown wire type 7"),
    ],
)
def test_malformed_bytes_are_refused_where_they_are(message: bytes, offset: int, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint) as caught:
        list(fields(message, 0, len(message)))
    assert caught.value.offset == offset
    assert str(caught.value).endswith(f"at byte {offset}")


def test_a_length_may_not_leave_its_container() -> None:
    # The span claims two bytes more than its scope has; the record has them.
    message = blob(1, blob(2, A + b"\x12\x03b")) + A
    with pytest.raises(WireError, match="ends 2 bytes too late at byte 12"):
        split(message, ["a", "b", "a"])


@pytest.mark.parametrize(("labels", "complaint"), [("ab", "more spans"), ("abaa", "fewer spans")])
def test_labels_must_match_the_spans(labels: str, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        split(in_one_scope(A, B, A), labels)


def test_one_label_leaves_the_message_as_it_is() -> None:
    message = b"\x8a\x00\x00" + in_one_scope(A, B)
    assert split(message, "aa")["a"] is message


def test_what_has_one_label_keeps_even_an_odd_length() -> None:
    odd = b"\x8a\x00" + bytes([len(A) + 2 | 0x80, 0x80, 0x00]) + blob(2, A)
    assert split(odd + in_one_scope(B, A), "aba") == {"a": odd + in_one_scope(A), "b": in_one_scope(B)}


def test_containers_without_spans_belong_to_no_part() -> None:
    bare_scope, bare_resource = blob(2, blob(1, b"")), blob(1, blob(1, b""))
    message = bare_resource + blob(1, bare_scope + blob(2, A + B) + bare_scope)
    assert split(message, "ab") == {"a": in_one_scope(A), "b": in_one_scope(B)}


@pytest.mark.parametrize("count", range(2, 6))
def test_halves_have_all_spans_in_their_order(count: int) -> None:
    """Law 6: each with what surrounds it."""
    spans = [blob(2, b"span %d" % number) for number in range(count)]
    around = b"\x92\x01\x00"  # an unknown field of the message
    message = around + in_one_scope(*spans[:1]) + in_one_scope(*spans[1:])
    halves = halve(message)
    assert len(halves) == 2
    middle = count // 2
    found = [
        [half[start:stop] for half_scope in scopes(half) for tag, start, _, stop in fields(half, *half_scope)]
        for half in halves
    ]
    assert found == [spans[:middle], spans[middle:]]
    assert all(half.startswith(around) for half in halves)


def scopes(message: bytes) -> list[tuple[int, int]]:
    """Where the content of each ScopeSpans is."""
    return [
        (start, stop)
        for tag, _, begin, end in fields(message, 0, len(message))
        if tag == 10
        for _, _, start, stop in fields(message, begin, end)
    ]


def test_one_span_or_none_has_no_halves() -> None:
    for message in (b"", in_one_scope(), in_one_scope(A)):
        assert halve(message) == [message]
    with pytest.raises(WireError):
        halve(b"\x0a\x05rotten")


def test_join_merges() -> None:
    assert join([in_one_scope(A), b"", in_one_scope(B)]) == in_one_scope(A) + in_one_scope(B)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.lists(st.sampled_from("ab"), min_size=2, max_size=4))
def test_arbitrary_bytes_split_or_are_refused(message: bytes, labels: list[str]) -> None:
    try:
        parts = split(message, labels)
    except WireError:
        return
    assert set(parts) == set(labels)
