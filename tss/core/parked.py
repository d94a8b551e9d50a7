"""Parked traces: the bytes that a partition has in Redis, and the notes that its owner has about them.

A trace that stays open for long is *parked*. The bytes of its spans move to Redis, as a *frame*. Its *summary* is stored
beside them; it has all that the deadline, the policies and later fragments of the trace need.

Redis may lose data. So each commit of an offset also has a `ParkingCheckpoint`, which says what Redis must have. If Redis
has less, the records are read again from the checkpoint's *floor*, the oldest record of a parked trace.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import attrs
from zstandard import ZstdError

from tss.core.conditions.program import Program
from tss.core.errors import Lost
from tss.core.names import MAX_CHARS
from tss.core.otlp import Encoding, Scanner
from tss.core.packing import Dictionary, Packed
from tss.core.streamtime import NO_TIME

VERSION = 1
PLAIN = Dictionary(0)  # zstd without a trained dictionary, because the next owner does not have ours
ID_BYTES = 8  # of a span
NOWHERE = -1  # as offset: nothing is parked

_HEAD = struct.Struct(">BII")  # version, bytes of the JSON object, bytes of the ids seen
_RANGE = struct.Struct(">Bqq")  # version, the offset after which a frame begins, the offset of its last record


@attrs.frozen
class Summary:
    """What is known of a parked trace, without its spans.

    Versions of the daemon share Redis during a rolling update: fields are only added, and unknown ones are ignored.
    """

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
    overflown: bool = False  # the trace has too many span ids to remember, and counts as incomplete
    facts: bytes = b""
    # The fingerprint of the program that made the facts; empty: unknown. It is stored beside the summary.
    program: str = ""
    # The facts are of a program that is not known here: the spans have to be scanned again. Not stored.
    unscanned: bool = False
    # Older versions did not store the next ones.
    root_ms: int = NO_TIME
    seen_bytes: int = 0
    forced: bytes = b""  # what the program of the force rules found
    rules: str = ""  # the fingerprint of this program; empty: there were no rules, or others for some of the spans
    leads_ms: tuple[int, int, int] = (0, 0, 0)  # of first_ms, last_ms and root_ms; see `Trace`
    service: str = ""  # the names of `core/names.py`; empty: unknown
    root_name: str = ""

    def to_bytes(self) -> bytes:
        """The bytes for Redis, without ``program`` and ``unscanned``."""
        fields: dict[str, object] = {name: getattr(self, name) for name in _FIELDS}
        fields["values"] = []  # before there were facts, versions needed it
        fields |= {"root_ms": self.root_ms, "seen_bytes": self.seen_bytes, "facts": self.facts.hex()}
        fields |= {"forced": self.forced.hex(), "rules": self.rules} if self.rules else {}
        fields |= {"leads_ms": self.leads_ms} if any(self.leads_ms) else {}
        fields |= {name: text for name, text in (("service", self.service), ("root_name", self.root_name)) if text}
        told = json.dumps(fields, separators=(",", ":")).encode()
        return b"".join([_HEAD.pack(VERSION, len(told), len(self.span_ids)), told, self.span_ids, self.missing])

    @classmethod
    def from_bytes(cls, data: bytes) -> Summary:
        """Raises Lost for bytes that this version did not write."""
        try:
            version, size, seen = _HEAD.unpack_from(data)
            body = data[_HEAD.size :]
            if version != VERSION or len(body) < size + seen or seen % ID_BYTES or (len(body) - size) % ID_BYTES:
                raise ValueError(f"version {version}, {len(body)} bytes")
            told = json.loads(body[:size])
            read = {name: _field(name, told[name]) for name in _FIELDS}
            read["root_ms"] = _field("root_ms", told.get("root_ms", read["last_ms"] if read["has_root"] else NO_TIME))
            read["seen_bytes"] = _field("seen_bytes", told.get("seen_bytes", read["payload_bytes"]))
            read |= {name: bytes.fromhex(told.get(name, "")) for name in ("facts", "forced")}
            read["rules"] = str(told.get("rules", ""))
            read["leads_ms"] = _leads(told.get("leads_ms", (0, 0, 0)))
            read |= {name: str(told.get(name, ""))[:MAX_CHARS] for name in ("service", "root_name")}
            return cls(span_ids=body[size : size + seen], missing=body[size + seen :], **read)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError, struct.error) as error:
            raise Lost(f"the summary of a parked trace cannot be read: {str(error)[:200]!r}") from None

    def under(self, programs: Mapping[str, Program]) -> Summary:
        """The same for an owner that knows these programs, by fingerprint. Facts of another program are left out: a trace must
        not be decided by the answers to other questions (law 2)."""
        program = programs.get(self.program)
        if program is not None and program.reads(self.facts):
            return self
        return attrs.evolve(self, facts=b"", program="", unscanned=True)


_FLAGS = ("has_root", "overflown")
_TIMES = ("first_ms", "last_ms")
_STARTS_AND_ENDS = ("start_ns", "end_ns")
_COUNTS = ("first_offset", "parked_to", "spans", "held_spans", "payload_bytes", "errors")
# Start and end are unsigned in OTLP. Numbers that are added up over traces are smaller, so that no sum overflows.
_BITS = (
    dict.fromkeys(_STARTS_AND_ENDS, 64)
    | dict.fromkeys(("spans", "held_spans", "payload_bytes", "errors", "seen_bytes"), 40)
    | {"lead_ms": 31}
)
_FIELDS = (*_COUNTS, *_STARTS_AND_ENDS, *_TIMES, *_FLAGS)  # other names are of newer versions, or may be absent


def _field(name: str, value: object) -> Any:
    if name in _FLAGS:
        if isinstance(value, bool):
            return value
    elif isinstance(value, int) and not isinstance(value, bool) and _least(name) <= value < 1 << _BITS.get(name, 63):
        return value
    raise ValueError(f"{name}: {str(value)[:100]}")


def _leads(value: object) -> tuple[int, int, int]:
    match value:
        case (first, last, root):
            return _field("lead_ms", first), _field("lead_ms", last), _field("lead_ms", root)
    raise ValueError(f"leads_ms: {str(value)[:100]}")


def _least(name: str) -> int:
    return NO_TIME if name in (*_TIMES, "root_ms") else 0


def facts_of(chunks: Iterable[bytes], scanner: Scanner, program: Program) -> bytes:
    """The facts of these spans of one trace. ``scanner`` has this program."""
    facts = b""
    for chunk in chunks:
        for fragment in scanner.fragments(chunk, Encoding.OTLP_PROTO, []):
            facts = program.fold(facts, fragment.facts)
    return facts


@attrs.frozen
class Parcel:
    """The bytes of one trace that are written to Redis in one call."""

    trace_id: bytes
    summary: bytes
    frame: bytes
    program: str = ""  # see ``Summary``


def to_frame(after: int, up_to: int, chunks: Sequence[bytes | Packed]) -> bytes:
    """The frame of the fragments with offsets above ``after``, up to ``up_to``."""
    plain = b"".join([each.unpack() if isinstance(each, Packed) else each for each in chunks])
    return _RANGE.pack(VERSION, after, up_to) + PLAIN.pack(plain)


def chain(frames: Sequence[bytes], parked_to: int) -> list[Packed]:
    """The frames that together hold the trace's fragments up to the offset ``parked_to``, in order.

    ``frames`` may have more: a park whose answer was lost is repeated. Raises Lost if a frame is missing.
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
        raise Lost(f"the frame of a parked trace up to offset {wanted} is missing")
    return found[::-1]


def _opened(frame: bytes, up_to: int) -> Packed:
    packed = Packed(frame, PLAIN)
    try:
        packed.unpack()  # checked here, because the records can still be read from Kafka instead
    except ZstdError as error:
        raise Lost(f"the frame of a parked trace up to offset {up_to} cannot be unpacked: {error}") from None
    return packed


@attrs.frozen
class ParkingCheckpoint:
    """What a commit says about parked traces, beside the offset.

    If Redis has not at least parcel ``seq`` under this ``token``, the partition has to be read from ``floor``.
    """

    floor: int
    token: str
    seq: int


# A trace id, an offset and the entry in a dict, measured with tracemalloc; tests/core/test_parked.py checks it.
NOTE_BYTES = 130
UNTOLD_BYTES = 60  # only the entry


@attrs.define(eq=False)
class Shelf:
    """What Redis holds for one assignment of a partition, as its owner knows it."""

    token: str  # of this assignment: an owner with another token may not write to the shelf
    seq: int = 0  # the number of the last parcel that Redis confirmed
    unheard: int = 0  # parcels sent since, without an answer
    lost: str = ""  # why it cannot be used any longer; empty while it can
    full_until: float = 0.0  # until this time (of the task's clock) nothing is parked, because Redis was full
    touch_at: float = 0.0  # from this time on its expiry has to be renewed, if no parcel does that
    _floors: dict[bytes, int] = attrs.field(factory=dict)  # by unsettled parked trace: its first offset
    _ended: dict[bytes, int] = attrs.field(factory=dict)  # by settled parked trace: its last offset
    _untold: dict[bytes, int] = attrs.field(factory=dict)  # of these, those that Redis does not know to have ended

    def __repr__(self) -> str:
        return (
            f"<Shelf {self.token} seq {self.seq}, {len(self._floors)} parked, {len(self._ended)} to remove {self.lost}>"
        )

    def __len__(self) -> int:
        return len(self._floors)

    @property
    def held_bytes(self) -> int:
        """The memory of the notes in bytes. Above `Limits.shelf_bytes` no trace is parked."""
        return NOTE_BYTES * (len(self._floors) + len(self._ended)) + UNTOLD_BYTES * len(self._untold)

    def checkpoint(self, low_water: int) -> ParkingCheckpoint:
        """The checkpoint for a commit of the offset ``low_water``."""
        return ParkingCheckpoint(min([low_water, *self._floors.values()]), self.token, self.seq)

    def put(self, trace_id: bytes, first_offset: int) -> None:
        """Redis has spans of this trace, so Kafka's retention may delete their records."""
        self._ended.pop(trace_id, None)
        self._untold.pop(trace_id, None)
        self._floors[trace_id] = first_offset

    def end(self, trace_id: bytes, last_offset: int) -> None:
        """The trace has settled. Its spans are removed from Redis after the next commit. An owner that resumes at an
        earlier commit still needs them: without them it would decide about a part of the trace. Before that commit Redis is
        told the last offset, for an owner that resumes at the commit before they are removed."""
        self._floors.pop(trace_id, None)
        self._ended[trace_id] = self._untold[trace_id] = last_offset

    def to_tell(self, count: int) -> dict[bytes, int]:
        """At most ``count`` of the ended traces that Redis does not know as such, with their last offsets."""
        return dict(islice(self._untold.items(), count))

    def told(self, ends: Mapping[bytes, int]) -> None:
        """Redis knows these ends."""
        for trace_id, last_offset in ends.items():
            if self._untold.get(trace_id) == last_offset:
                del self._untold[trace_id]

    def to_remove(self, committed: int, count: int) -> list[bytes]:
        """At most ``count`` traces that no later owner can need, because they ended before the offset ``committed``."""
        found = []
        for trace_id, last_offset in self._ended.items():
            if last_offset < committed:
                found.append(trace_id)
                if len(found) == count:
                    break
        return found

    def removed(self, trace_ids: Sequence[bytes]) -> None:
        """Redis no longer has these."""
        for trace_id in trace_ids:
            self._ended.pop(trace_id, None)
            self._untold.pop(trace_id, None)
