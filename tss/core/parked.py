"""What stands of a partition's traces in Redis: summaries and frames as bytes, and the shelf that a partition has there.

A trace that stays open for long is *parked*: the bytes of its spans go to Redis as a frame, and beside them its summary,
which is all that its deadline, the policies and its later fragments need. What Redis has of a partition is only believed
together with what Kafka was told when the offset was committed (`Place`), so a Redis that has lost or forgotten
something is noticed, and the records are read again from the floor.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import attrs

from tss.core.errors import Lost
from tss.core.otlp.lookup import Value, Values
from tss.core.packing import Dictionary, Packed

VERSION = 1
PLAIN = Dictionary(0)  # zstd without a trained dictionary: the next owner has not got ours
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

    def to_bytes(self) -> bytes:
        """For Redis."""
        fields = attrs.asdict(self, recurse=False)
        seen, missing = fields.pop("span_ids"), fields.pop("missing")
        facts = json.dumps(fields, default=_hex, separators=(",", ":")).encode()
        return b"".join([_HEAD.pack(VERSION, len(facts), len(seen)), facts, seen, missing])

    @classmethod
    def from_bytes(cls, data: bytes) -> Summary:
        """Raises Lost for what this version did not write."""
        try:
            version, size, seen = _HEAD.unpack_from(data)
            body = data[_HEAD.size :]
            if version != VERSION or len(body) < size + seen:
                raise ValueError(f"version {version}, {len(body)} bytes")
            facts = json.loads(body[:size])
            facts["values"] = tuple(tuple(_value(each) for each in some) for some in facts["values"])
            return cls(span_ids=body[size : size + seen], missing=body[size + seen :], **facts)
        except (ValueError, TypeError, KeyError, struct.error) as error:
            raise Lost(f"a parked trace's summary cannot be read: {error!r}") from None


def _hex(value: object) -> object:
    if isinstance(value, bytes):
        return [value.hex()]  # no value is a list
    raise TypeError(repr(value))


def _value(value: object) -> Value:
    if isinstance(value, list):
        return bytes.fromhex(value[0])
    if isinstance(value, str | bool | int | float):
        return value
    raise TypeError(repr(value))


@attrs.frozen
class Parcel:
    """What is put into Redis of one trace at one time."""

    trace_id: bytes
    summary: bytes
    frame: bytes


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
        if version == VERSION and up_to == wanted:
            found.append(Packed(frame[_RANGE.size :], PLAIN))
            wanted = after
    if wanted != NOWHERE:
        raise Lost(f"a parked trace's frame up to offset {wanted} is missing")
    return found[::-1]


@attrs.frozen
class Place:
    """What Kafka is told beside an offset: from where on to read when Redis has not, under this token, at least this."""

    floor: int
    token: str
    seq: int


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

    def place(self, low_water: int) -> Place:
        """For the commit of this offset."""
        return Place(min([low_water, *self._floors.values()]), self.token, self.seq)

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
