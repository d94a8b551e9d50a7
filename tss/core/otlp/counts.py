# cython: boundscheck=False, wraparound=False
"""Writes on each span how many spans it stands for, as an attribute. Everything else of a span keeps its bytes."""

import struct
from collections.abc import Callable

from tss.core.otlp.cursor import Cursor
from tss.core.otlp.rewriting import rewritten
from tss.core.otlp.wire import WireError, fields, varint_at, varint_bytes

CountOf = Callable[[bytes], float]
"""From a span's trace state to the number of spans that it stands for; 0 if that is unknown."""

# The fields trace_state and attributes of a span; key and value of a KeyValue; int_value and double_value of an AnyValue.
_STATE, _ATTRIBUTE, _KEY, _VALUE, _INT = 3 << 3 | 2, 9 << 3 | 2, 1 << 3 | 2, 2 << 3 | 2, 3 << 3
_DOUBLE = 4 << 3 | 1


def with_counts(message: bytes, key: bytes, count_of: CountOf, chance: float) -> bytes:
    """A serialized `TracesData` in which each span has its count as the integer attribute ``key``.

    A count that a span has already, as a number of at least 1, is multiplied. ``chance`` in [0, 1) rounds: 2.25 becomes 3 if
    it is below 0.25, else 2. A chance that is uniform over the traces leaves the sum of the counts unbiased. A span whose
    count is unknown stays as it is. Raises WireError if the message is malformed.
    """
    made = _Counting(message, key, count_of, chance)
    made.read()
    return rewritten(message, made.changes)


class _Counting:
    """One pass over a message."""

    def __init__(self, message: bytes, key: bytes, count_of: CountOf, chance: float) -> None:
        self.message = message
        self.key = key
        self.start = (
            bytes([_KEY]) + varint_bytes(len(key)) + key
        )  # of an attribute with this key, as all libraries write it
        self.count_of = count_of
        self.chance = chance
        self.cursor = Cursor(message)
        self.changes: dict[int, bytes] = {}
        self.asked = False  # as in `tracestates`
        self.old = b""
        self.count = 0.0

    def read(self) -> None:
        """Set `changes`: the new field of each span, by the offset of the old one."""
        cursor, size = self.cursor, len(self.message)
        while cursor.at < size:
            cursor.step(size)
            if cursor.tag == 0xA:
                self.below(cursor.body, cursor.at, 1)

    def below(self, start: int, stop: int, level: int) -> None:
        cursor = self.cursor
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12 and level == 1:
                self.below(cursor.body, cursor.at, 2)
            elif cursor.tag == 0x12:
                self.span(cursor.start, cursor.body, cursor.at)

    def span(self, field: int, start: int, stop: int) -> None:
        cursor, message = self.cursor, self.message
        state = b""
        place, end = stop, stop  # of the attribute
        before = 1.0
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == _STATE:
                state = message[cursor.body : cursor.at]
            elif cursor.tag == _ATTRIBUTE and place == stop and self.start in message[cursor.body : cursor.at]:
                key, value = _pair(message[cursor.body : cursor.at])
                if key == self.key:
                    place, end, before = cursor.start, cursor.at, value
        if not self.asked or state != self.old:
            self.asked, self.old, self.count = True, state, self.count_of(state)
        if self.count > 0:
            new = self.attribute(before * self.count)
            body = message[start:place] + new + message[end:stop]
            self.changes[field] = bytes([0x12]) + varint_bytes(len(body)) + body
        cursor.at = stop

    def attribute(self, count: float) -> bytes:
        """The field of the attribute."""
        whole = int(min(count, 2.0**53))  # a double has no larger ones exactly
        value = bytes([_INT]) + varint_bytes(whole + (self.chance < count - whole))
        pair = self.start + bytes([_VALUE]) + varint_bytes(len(value)) + value
        return bytes([_ATTRIBUTE]) + varint_bytes(len(pair)) + pair


def _pair(pair: bytes) -> tuple[bytes, float]:
    """The key of a serialized KeyValue, and its value as a count: 1 if it is no number of at least 1."""
    key, count = b"", 1.0
    try:
        for tag, _, start, stop in fields(pair, 0, len(pair)):
            if tag == _KEY:
                key = pair[start:stop]
            elif tag == _VALUE:
                count = _number(pair[start:stop])
    except WireError:
        return b"", 1.0
    return key, count


def _number(value: bytes) -> float:
    found = 1.0
    for tag, _, start, stop in fields(value, 0, len(value)):
        if tag == _INT:
            found = float(varint_at(value, start) % 2**64)
        elif tag == _DOUBLE:
            [found] = struct.unpack("<d", value[start:stop])
    return found if 1 <= found < 2**53 else 1.0
