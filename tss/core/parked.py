"""What stands of a partition's traces in Redis: summaries and frames as bytes, and the shelf that a partition has there.

A trace that stays open for long is *parked*: the bytes of its spans go to Redis as a frame, and beside them its summary,
which is all that its deadline, the policies and its later fragments need. What Redis has of a partition is only believed
together with what Kafka was told when the offset was committed (`ParkingCheckpoint`), so a Redis that has lost or forgotten
something is noticed, and the records are read again from the floor.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from zstandard import ZstdError

from tss.core.errors import Lost
from tss.core.otlp import Encoding, Lookup, Scanner, Value, Values
from tss.core.otlp.lookup import merge
from tss.core.packing import Dictionary, Packed

VERSION = 1
PLAIN = Dictionary(0)  # zstd without a trained dictionary: the next owner has not got ours
ID_BYTES = 8  # of a span
NOWHERE = -1  # as offset: nothing is parked

_HEAD = struct.Struct(">BII")  # version, bytes of the facts, bytes of the ids seen
_RANGE = struct.Struct(">Bqq")  # version, after which offset a frame begins, up to which it reaches


@attrs.frozen
class Summary:
    """What is known of a parked trace, beside its spans."""

    first_offset: int
    parked_to: int  # its fragments up to this offset are in the frames
    spans: int
    held_spans: int
    payload_bytes: int
    errors: int
    start_ns: int
    end_ns: int
    has_root: bool
    first_ms: int
    last_ms: int
    span_ids: bytes = b""  # 8 bytes each
    missing: bytes = b""
    overflown: bool = False  # too many ids to remember: it stays incomplete
    values: Values = ()
    # Beside it, not in it, so that a version before this one still reads the rest.
    lookup: str = ""  # the fingerprint of the lookup that the values are of; empty: not known
    unlooked: bool = False  # the values are not those of our lookup: the spans have to be looked through again

    def to_bytes(self) -> bytes:
        """For Redis, without what stands beside it."""
        fields = attrs.asdict(self, recurse=False, filter=attrs.filters.exclude("lookup", "unlooked"))
        seen, missing = fields.pop("span_ids"), fields.pop("missing")
        facts = json.dumps(fields, default=_hex, separators=(",", ":")).encode()
        return b"".join([_HEAD.pack(VERSION, len(facts), len(seen)), facts, seen, missing])

    @classmethod
    def from_bytes(cls, data: bytes) -> Summary:
        """Raises Lost for what this version did not write."""
        try:
            version, size, seen = _HEAD.unpack_from(data)
            body = data[_HEAD.size :]
            if version != VERSION or len(body) < size + seen or seen % ID_BYTES or (len(body) - size) % ID_BYTES:
                raise ValueError(f"version {version}, {len(body)} bytes")
            facts = json.loads(body[:size])
            read = {name: _fact(name, facts[name]) for name in _FACTS}
            return cls(span_ids=body[size : size + seen], missing=body[size + seen :], **read)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError, struct.error) as error:
            raise Lost(f"a parked trace's summary cannot be read: {str(error)[:200]!r}") from None

    def under(self, lookup: Lookup) -> Summary:
        """The same for an owner that asks this. What was found for other questions is not known to it (law 2: a trace
        is never routed by the answer to another question); nothing asked, nothing is lacking."""
        if self.lookup == lookup.fingerprint and len(self.values) in (0, len(lookup.asks)):
            return self
        return attrs.evolve(self, values=(), unlooked=bool(lookup.asks))


_FLAGS = ("has_root", "overflown")
_TIMES = ("first_ms", "last_ms")
_STARTS_AND_ENDS = ("start_ns", "end_ns")
_COUNTS = ("first_offset", "parked_to", "spans", "held_spans", "payload_bytes", "errors")
# Start and end are unsigned in OTLP. What is added up over traces must not be able to overflow the sum.
_BITS = dict.fromkeys(_STARTS_AND_ENDS, 64) | dict.fromkeys(("spans", "held_spans", "payload_bytes", "errors"), 40)
_FACTS = (*_COUNTS, *_STARTS_AND_ENDS, *_TIMES, *_FLAGS, "values")  # others are of versions to come


def _fact(name: str, value: object) -> Any:
    if name == "values":
        if isinstance(value, list) and all(isinstance(some, list) for some in value):
            return tuple(tuple(_value(each) for each in some) for some in value)
    elif name in _FLAGS:
        if isinstance(value, bool):
            return value
    elif isinstance(value, int) and not isinstance(value, bool) and _least(name) <= value < 1 << _BITS.get(name, 63):
        return value
    raise ValueError(f"{name}: {str(value)[:100]}")


def _least(name: str) -> int:
    return -1 if name in _TIMES else 0  # a partition without a time has -1


def _hex(value: object) -> object:
    if isinstance(value, bytes):
        return [value.hex()]  # no value is a list
    raise TypeError(repr(value))


def _value(value: object) -> Value:
    match value:
        case [str(text)]:
            return bytes.fromhex(text)
        case str() | bool() | int() | float():
            return value
    raise ValueError(f"no value: {str(value)[:100]}")


def values_of(chunks: Iterable[bytes], scanner: Scanner) -> Values:
    """What a scanner's lookup finds in these spans of one trace."""
    values: Values = ()
    for chunk in chunks:
        for fragment in scanner.fragments(chunk, Encoding.OTLP_PROTO, []):
            values = merge(values, fragment.values)
    return values


@attrs.frozen
class Parcel:
    """What is put into Redis of one trace at one time."""

    trace_id: bytes
    summary: bytes
    frame: bytes
    lookup: str = ""  # see ``Summary``


def to_frame(after: int, up_to: int, chunks: Sequence[bytes | Packed]) -> bytes:
    """The spans of the fragments beyond one offset, up to another."""
    plain = b"".join([each.unpack() if isinstance(each, Packed) else each for each in chunks])
    return _RANGE.pack(VERSION, after, up_to) + PLAIN.pack(plain)


def chain(frames: Sequence[bytes], parked_to: int) -> list[Packed]:
    """Of all frames of a trace those that together are its fragments up to an offset, in order. Others are of attempts
    whose answer was never heard, and that were made again.

    Raises Lost when one is missing.
    """
    found: list[Packed] = []
    wanted = parked_to
    for frame in reversed(frames):
        if len(frame) < _RANGE.size:
            break
        version, after, up_to = _RANGE.unpack_from(frame)
        if version == VERSION and up_to == wanted and after < up_to:
            found.append(_opened(frame[_RANGE.size :], up_to))
            wanted = after
    if wanted != NOWHERE:
        raise Lost(f"a parked trace's frame up to offset {wanted} is missing")
    return found[::-1]


def _opened(frame: bytes, up_to: int) -> Packed:
    packed = Packed(frame, PLAIN)
    try:
        packed.unpack()  # here, where it can be read from Kafka instead
    except ZstdError as error:
        raise Lost(f"a parked trace's frame up to offset {up_to} cannot be unpacked: {error}") from None
    return packed


@attrs.frozen
class ParkingCheckpoint:
    """What Kafka is told beside an offset: from where on to read when Redis has not, under this token, at least this."""

    floor: int
    token: str
    seq: int


# A trace's id, an offset, its place in a dict: measured with tracemalloc (tests/core/test_parked.py holds it to it).
NOTE_BYTES = 130


@attrs.define(eq=False)
class Shelf:
    """What stands of one assignment of a partition in Redis, as its owner knows it."""

    token: str  # of this assignment: whoever has another may not touch the shelf
    seq: int = 0  # of the last parcel that Redis has confirmed
    unheard: int = 0  # parcels sent since then without an answer
    lost: str = ""  # why it cannot be used any more
    full_until: float = 0.0  # the task's own time: until then nothing is tried
    touch_at: float = 0.0  # and from when on it is to be touched, if nothing else does
    _floors: dict[bytes, int] = attrs.field(factory=dict)  # of parked traces that have not settled, their first offset
    _ended: dict[bytes, int] = attrs.field(factory=dict)  # of those that have, their last one

    def __repr__(self) -> str:
        return (
            f"<Shelf {self.token} seq {self.seq}, {len(self._floors)} parked, {len(self._ended)} to remove {self.lost}>"
        )

    def __len__(self) -> int:
        return len(self._floors)

    @property
    def held_bytes(self) -> int:
        """Memory taken by what is noted of traces. `Limits.shelf_bytes` bounds it: above that none is parked."""
        return NOTE_BYTES * (len(self._floors) + len(self._ended))

    def checkpoint(self, low_water: int) -> ParkingCheckpoint:
        """For the commit of this offset."""
        return ParkingCheckpoint(min([low_water, *self._floors.values()]), self.token, self.seq)

    def put(self, trace_id: bytes, first_offset: int) -> None:
        """Redis has something of this trace, that Kafka may forget."""
        self._ended.pop(trace_id, None)
        self._floors[trace_id] = first_offset

    def end(self, trace_id: bytes, last_offset: int) -> None:
        """The trace has settled: what Redis has of it is to go once a commit says so. Sooner, whoever has to go on from
        the commit before would find only the rest of the trace, and decide on that."""
        self._floors.pop(trace_id, None)
        self._ended[trace_id] = last_offset

    def to_remove(self, committed: int, count: int) -> list[bytes]:
        """Some of what no owner to come will ask for."""
        found = []
        for trace_id, last_offset in self._ended.items():
            if last_offset < committed:
                found.append(trace_id)
                if len(found) == count:
                    break
        return found

    def removed(self, trace_ids: Sequence[bytes]) -> None:
        """They are gone from Redis."""
        for trace_id in trace_ids:
            self._ended.pop(trace_id, None)
