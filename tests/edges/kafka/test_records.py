"""Messages to records, with headers that the client cannot decode: over messages that behave as the real ones do."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.core.spans import message, rows, span, trace_id
from tss.core.conditions.program import ASKS_NOTHING
from tss.core.headers import UNREADABLE_HEADERS
from tss.core.otlp import Encoding
from tss.edges.kafka.records import MessageReader
from tss.edges.kafka_client.errors import said
from tss.edges.kafka_client.headers import headers_of
from tss.edges.kafka_output.output_records import ConsumedTopic
from tss.edges.kafka_output.readback import Readback, _Remaining, _Wanted

REASON = b"a header's name is not UTF-8: b'\\xff'"


class Foreign:
    """A message with a header's name that is not UTF-8, as confluent-kafka 2.16 gives it."""

    def __init__(self, value: bytes, offset: int = 0) -> None:
        self._value, self._offset = value, offset
        self.asked = 0

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return "spans"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000

    def headers(self) -> list[tuple[str, bytes]]:
        self.asked += 1
        if self.asked > 1:
            pytest.fail("the second call returns a NULL name, and reading that ends the process")
        try:
            return [(b"\xff".decode(), b"x")]
        except UnicodeDecodeError as error:
            raise SystemError("returned a result with an exception set") from error


class Plain(Foreign):
    def headers(self) -> list[tuple[str, bytes]]:
        return [("tenant", b"a")]


def read(keeping: bool, *messages: Any) -> Any:
    return MessageReader("spans", Encoding.AUTO, ASKS_NOTHING, keeping).read([*messages], {0: 0}, set())


@pytest.mark.parametrize("keeping", [False, True])
def test_law_4_an_unreadable_record_with_unreadable_headers_is_a_letter_that_says_so(keeping: bool) -> None:
    found = read(keeping, Foreign(b"no spans"), Plain(b"no spans", 1))
    assert [(each.offset, each.payload, each.headers) for each in found.letters] == [
        (0, b"no spans", ((UNREADABLE_HEADERS, REASON),)),
        (1, b"no spans", (("tenant", b"a"),)),
    ]
    assert len(found.records) == 2


def test_with_several_faults_the_headers_are_asked_for_once() -> None:
    faulty = message([Span(trace_id=b"short"), span(0, 0)]) + message([Span(trace_id=trace_id(0), span_id=b"short")])
    found = read(False, Foreign(faulty))
    assert len(found.letters) > 1
    assert {letter.headers for letter in found.letters} == {((UNREADABLE_HEADERS, REASON),)}


def test_spans_under_unreadable_headers_go_on() -> None:
    found = read(True, Foreign(message([span(1, 0)])))
    assert [len(row.fragments) for row in rows(found.records)] == [1]
    assert found.headers == [((UNREADABLE_HEADERS, REASON),)]
    assert found.letters == []


class Laden(Foreign):
    """One with little in its value, and much beside it."""

    def key(self) -> bytes | None:
        return bytes(1_000)

    def headers(self) -> list[tuple[str, bytes]]:
        return [("tenant", bytes(10_000))] * 2


def test_law_5_headers_that_are_kept_are_counted() -> None:
    value = message([span(1, 0)])
    kept = read(True, Laden(value)).held_bytes - read(True, Plain(value)).held_bytes
    assert 20_000 <= kept < 21_000
    assert read(False, Laden(value)).held_bytes == read(False, Plain(value)).held_bytes, "they go with the message"
    for keeping in (False, True):
        letters = read(keeping, Laden(b"no spans")).held_bytes - read(keeping, Plain(b"no spans")).held_bytes
        assert 21_000 <= letters < 22_000


def test_law_5_what_a_message_has_beside_its_value_is_looked_at_in_some() -> None:
    found = read(False, *[Laden(message([span(1, 0)]), offset) for offset in range(200)])
    assert found.looked == 2 and 42_000 <= found.beside_bytes < 43_000


class Unread(Foreign):
    """What librdkafka gives in place of records that it cannot read."""

    def __init__(self, offset: int, code: int = KafkaError._BAD_MSG) -> None:
        super().__init__(b"", offset)
        self._code = code

    def error(self) -> KafkaError:  # type: ignore[override]
        return KafkaError(self._code, "failed CRC32C check")


def gaps(*polls: list[Any], position: int = 0) -> list[tuple[int, int]]:
    reader, positions = MessageReader("spans", Encoding.AUTO, ASKS_NOTHING), {0: position}
    found = [gap for messages in polls for gap in reader.read(messages, positions, set()).gaps]
    assert all(gap.partition == 0 and gap.reason == "failed CRC32C check" for gap in found)
    return [(gap.first, gap.after) for gap in found]


def test_law_4_records_that_the_client_passes_unread_are_known_by_their_offsets() -> None:
    good = [Plain(b"", offset) for offset in range(12)]
    assert gaps([*good[:3], Unread(3), *good[6:]]) == [(3, 6)]
    assert gaps([*good[:3], Unread(3)], [Unread(3)], good[6:]) == [(3, 6)], "asked for again, and passed later"
    assert gaps([Unread(3), Unread(5), good[7]]) == [(3, 7)]
    assert gaps([Unread(3, KafkaError._BAD_COMPRESSION), good[7]]) == [(3, 7)]
    assert gaps([Unread(3), *good[5:]], position=4) == [(4, 5)], "of a batch that begins before the position"


def test_records_that_are_read_in_a_second_try_are_no_gap() -> None:
    good = [Plain(b"", offset) for offset in range(12)]
    assert gaps([*good[:3], Unread(3)], good[3:]) == []
    assert gaps([Unread(3, KafkaError._AUTO_OFFSET_RESET), *good[6:]]) == [], (
        "the position is set anew, and that is told there"
    )
    assert gaps([Unread(-1001), good[0]], [good[2]]) == []
    assert gaps([Unread(3), good[0]], [good[1], good[4]]) == [], "read again from before"


def test_no_headers_are_none() -> None:
    class Bare(Foreign):
        def headers(self) -> None:  # type: ignore[override]
            return None

    assert headers_of(Bare(b"")) == ()  # type: ignore[arg-type]


def test_what_is_read_back_passes_over_unreadable_headers() -> None:
    recall, reading = Readback({}, "kept", ConsumedTopic("group", "spans")), _Remaining({0: 0}, {0: 2})
    for each in (Foreign(b""), Plain(b"", 1)):
        recall._take(each, reading, _Wanted(recall.consumed, {0: 0}, {}))  # type: ignore[arg-type]
    assert reading.is_done()


def test_an_error_text_that_is_not_utf_8_is_told_all_the_same() -> None:
    class Error(KafkaError):
        def str(self) -> str:
            return b"\xff".decode()

    assert said(KafkaError(KafkaError._ALL_BROKERS_DOWN, "gone")) == "gone"
    assert "_ALL_BROKERS_DOWN" in said(Error(KafkaError._ALL_BROKERS_DOWN, "gone"))
