"""Records for fuzzing: OTLP as no library would write it, and what bit rot and malice make of it.

All chance comes from the `Random` that is handed in, so a seed says all.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)
KINDS = (VARINT, FIXED64, LENGTH, GROUP, FIXED32)

# Few of each, so that spans share traces and name each other.
TRACES = (b"trace-a-16-bytes", b"trace-b-16-bytes", bytes(15) + b"\x01", bytes(16), b"", b"short", b"seventeen-bytes!!")
TRACE_WEIGHTS = (40, 20, 10, 1, 1, 1, 1)
SPANS = (*(b"span-%03d" % number for number in range(6)), bytes(7) + b"\x01", bytes(8), b"", b"7-bytes", b"9-bytes!!")
SPAN_WEIGHTS = (*(20,) * 6, 10, 1, 1, 1, 1)
TEXTS = (
    b"",
    b"a",
    b"GET /",
    b"mysql",
    b"select 1 -- \xc3\xa9",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"\xc3",
    b"\xed\xa0\x80",
    b"a longer text, of a few dozen bytes",
)
KEYS = (b"service.name", b"http.status", b"k", b"", b"other.key", b"ervice.name", b"\xff",
        b"http.method", b"http.route", b"resource.name", b"db.system", b"db.statement")  # fmt: skip
NUMBERS = (0, 1, 2, 3, 9, 127, 128, 2**31 - 1, 2**31, 2**32 + 2, 2**63, 2**64 - 1)
SPLICED = (b"", b"\0", b"\x80", b"\xff", b"\x7f", b"\x0a", b"\x12", b"\x4a", b"\x7a", b"\x0b", b"\x0c", b"\x0a\x00",
           b"\x80\x00", b"\x80" * 9 + b"\x01", b"\xff" * 10, b"\x12\x08span-001", b"\x22\x08span-002",
           b"\x7a\x02\x18\x02", b"\x0a\x10trace-b-16-bytes")  # fmt: skip


def varint(value: int, size: int = 1) -> bytes:
    """At least `size` bytes long, padded as protobuf allows."""
    out = bytearray()
    while value > 0x7F or len(out) + 1 < size:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes((value,))


def blob(number: int, body: bytes) -> bytes:
    return varint(number << 3 | LENGTH) + varint(len(body)) + body


class Maker:
    """Makes messages, with one source of chance."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._chance = rng.random

    def message(self) -> bytes:
        """A `TracesData`, mostly well-formed."""
        if self._chance() < 0.03:
            return self._crowd()
        return self._message(self._rng.choice((1, 1, 1, 2, 3)), self._resource_spans)

    def _crowd(self) -> bytes:
        """More spans and more traces than stand on the scanner's stack, or are looked through one by one."""
        rng = self._rng
        traces = [rng.randbytes(16) for _ in range(rng.choice((1, 1, 2, 12, 40)))]
        ids = [rng.randbytes(8) for _ in range(rng.choice((30, 60, 120)))]
        spans = [
            self._blob(2, self._blob(1, rng.choice(traces)) + self._blob(2, own) + self._blob(4, rng.choice(ids)))
            for own in rng.choices(ids, k=rng.randrange(20, 90))
        ]
        cuts = sorted(rng.randrange(len(spans)) for _ in range(rng.choice((0, 1, 3, 12))))
        pieces = [b"".join(spans[start:stop]) for start, stop in pairwise((0, *cuts, len(spans)))]
        return b"".join(self._blob(1, self._attributes(1) + self._blob(2, piece)) for piece in pieces)

    def _message(self, count: int, *fields: Callable[[], bytes]) -> bytes:
        """Some fields in any order, sometimes with one in between that no schema has."""
        found = [field() for field in fields for _ in range(count)]
        if self._chance() < 0.3:
            self._rng.shuffle(found)
        if self._chance() < 0.2:
            found.insert(self._rng.randrange(len(found) + 1), self._unknown())
        return b"".join(found)

    def _head(self, value: int) -> bytes:
        """A tag or a length, now and then padded; one byte more than protobuf allows is rare."""
        return varint(value, 1 if self._chance() < 0.97 else self._rng.choice((2, 2, 3, 3, 4, 4, 5, 5, 5, 5, 6)))

    def _tag(self, number: int, kind: int) -> bytes:
        return self._head(number << 3 | kind)

    def _blob(self, number: int, body: bytes) -> bytes:
        if self._chance() < 0.02:  # broken or changed inside, with all that is around it whole
            body = mutated(self._rng, body, body)
        size = len(body)
        if self._chance() < 0.001:
            size = max(0, size + self._rng.choice((-1, 1, 3, 200, 2**31, 2**63)))
        return self._tag(number, LENGTH) + self._head(size) + body

    def _resource_spans(self) -> bytes:
        fields: list[Callable[[], bytes]] = [self._scope_spans]
        if self._chance() < 0.7:
            fields.insert(0, lambda: self._blob(1, self._attributes(1)))
        if self._chance() < 0.1:
            fields.append(lambda: self._blob(3, b"https://schema"))
        return self._blob(1, self._message(1 if self._chance() < 0.7 else 2, *fields))

    def _scope_spans(self) -> bytes:
        fields: list[Callable[[], bytes]] = [self._span] * self._rng.choice((0, 1, 1, 1, 2, 3, 5))
        if self._chance() < 0.5:
            fields.insert(0, lambda: self._blob(1, self._blob(1, b"scope") + self._attributes(3)))
        if self._chance() < 0.1:
            fields.append(lambda: self._blob(3, b"https://schema"))
        return self._blob(2, self._message(1, *fields))

    def _span(self) -> bytes:
        pick, weighted = self._rng.choice, self._rng.choices
        # Each field, and how often a span has it; more than 1 is once and perhaps again.
        fields: tuple[tuple[float, Callable[[], bytes]], ...] = (
            (1.1, lambda: self._blob(1, weighted(TRACES, TRACE_WEIGHTS)[0])),
            (1.0, lambda: self._blob(2, weighted(SPANS, SPAN_WEIGHTS)[0])),
            (0.7, lambda: self._blob(4, weighted(SPANS, SPAN_WEIGHTS)[0])),
            (0.6, lambda: self._blob(5, pick(TEXTS))),
            (0.2, lambda: self._blob(3, pick(TEXTS))),
            (0.4, lambda: self._tag(6, VARINT) + self._number()),
            (0.6, lambda: self._tag(7, FIXED64) + pick(NUMBERS).to_bytes(8, "little")),
            (0.6, lambda: self._tag(8, FIXED64) + pick(NUMBERS).to_bytes(8, "little")),
            (0.5, lambda: self._attributes(9)),
            (0.2, lambda: self._blob(11, self._blob(2, pick(TEXTS)) + self._attributes(3))),
            (
                0.1,
                lambda: self._blob(13, self._blob(1, pick(TRACES)) + self._blob(3, pick(TEXTS)) + self._attributes(4)),
            ),
            (0.4, self._status),
            (0.1, self._status),
            (0.2, self._unknown),
        )
        found = [make() for often, make in fields if self._chance() < often]
        found += [make() for often, make in fields if self._chance() < often - 1]
        if self._chance() < 0.3:
            self._rng.shuffle(found)
        return self._blob(2, b"".join(found))

    def _status(self) -> bytes:
        return self._blob(15, self._blob(2, b"why") + self._tag(3, VARINT) + self._number())

    def _attributes(self, number: int) -> bytes:
        return b"".join(self._blob(number, self._key_value()) for _ in range(self._rng.choice((0, 1, 2, 3))))

    def _key_value(self) -> bytes:
        found = [self._blob(1, self._rng.choice(KEYS)), self._blob(2, self._any_value())]
        if self._chance() < 0.1:
            found.append(self._unknown() if self._chance() < 0.5 else self._blob(2, self._any_value()))
        if self._chance() < 0.1:
            self._rng.shuffle(found)
        return b"".join(found)

    def _any_value(self) -> bytes:
        pick = self._rng.choice
        if self._chance() < 0.1:
            return pick((b"", self._unknown(), b"\x0a"))
        if self._chance() < 0.05:
            return self._nested()
        number = self._rng.randrange(1, 9)
        if number in {2, 3}:
            return self._tag(number, VARINT) + self._number()
        if number == 4:
            doubles = (bytes(8), bytes(7) + b"\x80", b"\xff" * 8, bytes(6) + b"\xf0\x3f")
            return self._tag(number, FIXED64) + pick(doubles)
        return self._blob(number, pick(TEXTS))

    def _nested(self) -> bytes:
        """Arrays and maps in each other: a few, or about as many as OpenTelemetry allows."""
        value = self._blob(1, self._rng.choice(TEXTS))
        for _ in range(self._rng.choice((1, 2, 3, 62, 63, 64, 65, 66))):
            if self._rng.random() < 0.5:
                value = blob(5, blob(1, value))
            else:
                value = blob(6, blob(1, blob(1, self._rng.choice(KEYS)) + blob(2, value)))
        return value

    def _number(self) -> bytes:
        return varint(
            self._rng.choice(NUMBERS), 1 if self._chance() < 0.9 else self._rng.choice((2, 5, 9, 10, 10, 10, 11))
        )

    def _unknown(self, depth: int = 0) -> bytes:
        """A field that means nothing here: an unknown number, or a known one with another wire type."""
        rng = self._rng
        number = rng.choice((1, 2, 3, 4, 6, 7, 9, 15, 16, 20, 1000, 2**29 - 1, 0 if self._chance() < 0.02 else 5))
        kind = rng.choice(KINDS)
        if kind == GROUP:
            return self._group(number, depth)
        content: dict[int, Callable[[], bytes]] = {
            VARINT: self._number,
            FIXED64: lambda: rng.randbytes(8),
            LENGTH: lambda: varint(3, rng.choice((1, 1, 2, 5))) + rng.randbytes(3),
            FIXED32: lambda: rng.randbytes(4),
        }
        return self._tag(number, kind) + content[kind]()

    def _group(self, number: int, depth: int) -> bytes:
        rng = self._rng
        if self._chance() < 0.05:  # about as deep as protobuf allows
            deep = rng.randrange(94, 103)
            return self._tag(number, GROUP) + b"\x0b" * deep + b"\x0c" * deep + self._tag(number, END_GROUP)
        inner = b"".join(self._unknown(depth + 1) for _ in range(rng.randrange(3) if depth < 4 else 0))
        end = number if self._chance() < 0.995 else number + 1
        return self._tag(number, GROUP) + inner + self._tag(end, END_GROUP)


def mutated(rng: Random, value: bytes, other: bytes) -> bytes:
    """`value` with a few bytes changed, moved, taken out or put in, some of them from `other`."""
    out = bytearray(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(out) + 1)
        change = rng.randrange(12)
        if change > 7:  # what keeps all lengths, and so most often leaves the message whole
            piece = rng.choice(SPLICED)
            out[at : at + len(piece)] = piece[: len(out) - at]
        elif change <= 1 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif change == 2 and at < len(out):  # a length or a number that is off by little
            out[at] = (out[at] + rng.choice((-1, 1, 2, 8))) % 256
        elif change == 3:
            out[at : at + rng.randrange(3)] = rng.choice(SPLICED)
        elif change == 4:
            del out[at : at + rng.choice((1, 1, 2, 8))]
        elif change == 5:
            start = rng.randrange(len(other) + 1)
            out[at : at + rng.randrange(12)] = other[start : start + rng.randrange(24)]
        elif change == 6:
            out[at:at] = out[at : at + rng.randrange(24)]
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)
