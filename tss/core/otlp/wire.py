"""OTLP on the wire: splits a message by trace and joins messages, without changing a span's bytes.

Source: protobuf's encoding specification, and the field numbers of `opentelemetry/proto/trace/v1/trace.proto`.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

L = TypeVar("L", bound=Hashable)

_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)

# The tag of the field that leads one level down: TracesData.resource_spans = 1, ResourceSpans.scope_spans = 2,
# ScopeSpans.spans = 2. Below the last level are the spans, whose content is never read here.
_DOWN: Final = (1 << 3 | _LENGTH, 2 << 3 | _LENGTH, 2 << 3 | _LENGTH)
_SPAN_LEVEL: Final = len(_DOWN) - 1

_MAX_VARINT_BYTES = 10
_MAX_GROUPS = 100  # nested groups, as in protobuf
_MAX_HEAD_BYTES = 5  # of a tag or a length
_MAX_HEAD = 2**32 - 1

Field = tuple[int, int, int, int]
"""A field of a message: its tag, where the tag starts, where the content starts, where the content stops."""


# A record of 300 kB with a large resource and 8,000 traces splits into 400 MB. No sane producer sends records near this
# limit; a record that exceeds it is dead-lettered as a whole.
MAX_SPLIT_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 16  # the entry of a piece in a list, so that a thousand tiny fields times a thousand traces count too


class WireError(ValueError):
    """The bytes are not a valid protobuf message. `offset` is the place in the message where the error was found."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(f"{what} at byte {offset}")
        self.offset = offset


class SplitTooLarge(WireError):
    """The parts of a message would take far more memory than the message: each part repeats the resource and the scope."""


class _Budget:
    """The number of bytes that a split may still write."""

    def __init__(self, left: int) -> None:
        self._left = left

    def spend(self, size: int, times: int, offset: int) -> None:
        """Raises SplitTooLarge."""
        self._left -= (size + PIECE_BYTES) * times
        if self._left < 0:
            raise SplitTooLarge(f"its parts would take more than {MAX_SPLIT_BYTES >> 20} MiB", offset)


def join(payloads: Iterable[bytes]) -> bytes:
    """One message with the spans of all. In protobuf, concatenated messages are one message with merged repeated fields."""
    return b"".join(payloads)


def split(message: bytes, labels: Sequence[L]) -> dict[L, bytes]:
    """Cut a serialized `TracesData` into one message for each label.

    `labels` has one label for each span, in the order of the message. Spans keep their bytes and their order; so do the
    other fields around them (resource, scope, schema URL, unknown ones), which go into each part that has a span of
    that ResourceSpans or ScopeSpans. Only the lengths of those two change. A ResourceSpans or ScopeSpans without a span
    belongs to no label and is left out, unless there is only one label: then the message stays as it is.

    Raises `WireError` if the message is malformed or has not as many spans as there are labels.
    """
    distinct = set(labels)
    if len(distinct) == 1:
        return {distinct.pop(): message}
    remaining = iter(labels)
    parts = _split_level(message, 0, len(message), 0, remaining, _Budget(MAX_SPLIT_BYTES))
    for _ in remaining:
        raise WireError("fewer spans than labels", len(message))
    return {label: b"".join(pieces) for label, pieces in parts.items()}


def halve(message: bytes) -> list[bytes]:
    """The first and the second half of the spans of a serialized `TracesData`, cut by `split`. One message if it has one span.

    Raises `WireError` if the message is malformed.
    """
    count = _count(message, 0, len(message), 0)
    return [*split(message, [place < count // 2 for place in range(count)]).values()] if count > 1 else [message]


def _count(message: bytes, start: int, stop: int, level: int) -> int:
    """The number of spans between `start` and `stop`."""
    found = [(body, end) for tag, _, body, end in fields(message, start, stop) if tag == _DOWN[level]]
    return len(found) if level == _SPAN_LEVEL else sum(_count(message, *place, level + 1) for place in found)


def _split_level(
    message: bytes, start: int, stop: int, level: int, labels: Iterator[L], budget: _Budget
) -> dict[L, list[bytes]]:
    """The pieces of each label's version of the message between `start` and `stop`."""
    down = _DOWN[level]
    shared: list[bytes] = []  # the pieces read so far that every label gets
    parts: dict[L, list[bytes]] = {}
    for tag, field_start, body, field_stop in fields(message, start, stop):
        whole = message[field_start:field_stop]
        if tag != down:
            shared.append(whole)
            budget.spend(len(whole), len(parts), field_start)
            for pieces in parts.values():
                pieces.append(whole)
            continue
        if level == _SPAN_LEVEL:
            own = {_next_label(labels, field_start): whole}
        else:
            inner = _split_level(message, body, field_stop, level + 1, labels, budget)
            own = _rewrap(message[field_start : _after_varint(message, field_start)], whole, inner)
        for label, piece in own.items():
            if label not in parts:
                budget.spend(sum(map(len, shared)) + len(shared) * PIECE_BYTES, 1, field_start)
                parts[label] = shared.copy()
            budget.spend(len(piece), 1, field_start)
            parts[label].append(piece)
    return parts


def _rewrap(tag: bytes, whole: bytes, inner: dict[L, list[bytes]]) -> dict[L, bytes]:
    if len(inner) == 1:
        return dict.fromkeys(
            inner, whole
        )  # only one label: nothing is changed, not even a length with an unusual encoding
    bodies = {label: b"".join(pieces) for label, pieces in inner.items()}
    return {label: tag + varint_bytes(len(body)) + body for label, body in bodies.items()}


def _next_label(labels: Iterator[L], offset: int) -> L:
    for label in labels:
        return label
    raise WireError("more spans than labels", offset)


def fields(message: bytes, start: int, stop: int) -> Iterator[Field]:
    """Walk the fields between `start` and `stop`. A group is one field, from its start tag to its end tag.

    Raises `WireError` as soon as a field is malformed or would run past `stop`.
    """
    position = start
    while position < stop:
        tag, body = _head(message, position, stop)
        kind = tag & 7
        if tag < 8:  # within a group protobuf accepts this
            raise WireError(f"impossible tag {tag}", position)
        if kind == _LENGTH:
            length, body = _head(message, body, stop)
            end = body + length
        elif kind == _GROUP:
            end = _after_group(message, position, body, stop)
        else:
            end = _after_plain(message, position, kind, body, stop)
        if end > stop:
            raise WireError(f"a field that ends {end - stop} bytes too late", position)
        yield tag, position, body, end
        position = end


def _after_plain(message: bytes, position: int, kind: int, body: int, stop: int) -> int:
    """Where a field that is neither a group nor length-delimited ends; may be past `stop` for those of fixed size."""
    if kind == _VARINT:
        return _varint(message, body, stop)[1]
    if kind == _FIXED64:
        return body + 8
    if kind == _FIXED32:
        return body + 4
    if kind == _END_GROUP:
        raise WireError("the end of a group that was never opened", position)
    raise WireError(f"unknown wire type {kind}", position)


def _after_group(message: bytes, start: int, position: int, stop: int) -> int:
    """Where the group opened at `start` ends. Keeps its own stack, so that no depth of nesting can exhaust Python's."""
    open_groups = [_head(message, start, stop)[0] >> 3]
    while open_groups:
        if position >= stop:
            raise WireError("a group that is never closed", start)
        tag, body = _head(message, position, stop)
        kind = tag & 7
        if kind == _GROUP:
            if len(open_groups) == _MAX_GROUPS:
                raise WireError(f"groups nested more than {_MAX_GROUPS} deep", position)
            open_groups.append(tag >> 3)
            position = body
        elif kind == _END_GROUP:
            if open_groups.pop() != tag >> 3:
                raise WireError("the end of another group than the one open", position)
            position = body
        elif kind == _LENGTH:
            length, body = _head(message, body, stop)
            position = body + length
        else:
            position = _after_plain(message, position, kind, body, stop)
    return position


def _head(message: bytes, position: int, stop: int) -> tuple[int, int]:
    """The value of a tag or a length, and where it ends."""
    found, after = _varint(message, position, stop)
    if found > _MAX_HEAD or after - position > _MAX_HEAD_BYTES:
        raise WireError(f"impossible tag or length {found}", position)
    return found, after


def _varint(message: bytes, position: int, stop: int) -> tuple[int, int]:
    """The value of a varint, and where it ends. Up to ten bytes are allowed, even if fewer would do."""
    value = shift = 0
    for at in range(position, min(stop, position + _MAX_VARINT_BYTES)):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
    raise WireError("a varint without an end", position)


def _after_varint(message: bytes, position: int) -> int:
    return _varint(message, position, len(message))[1]


def varint_at(message: bytes, position: int) -> int:
    """The value of a varint, which may have up to 70 bits. Raises `WireError`."""
    return _varint(message, position, len(message))[0]


def varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
