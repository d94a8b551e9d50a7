# cython: boundscheck=False, wraparound=False
"""Removes or replaces spans of a message. All other bytes stay unchanged."""

from collections.abc import Mapping

from tss.core.otlp.cursor import Cursor
from tss.core.otlp.wire import varint_bytes

# TracesData.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2, all length-delimited.
_TOP, _BELOW, _SPAN_LEVEL = 1 << 3 | 2, 2 << 3 | 2, 2


def rewritten(message: bytes, changes: Mapping[int, bytes]) -> bytes:
    """A serialized `TracesData` with some spans replaced. `changes` has the new field by the offset of the span's old field.

    Around a changed span only the lengths change. A ResourceSpans or ScopeSpans that loses its last span is removed with
    everything in it. One that never had a span stays.
    """
    return _Rewriting(message, changes).level(0, 0, len(message)) if changes else message


class _Rewriting:
    """A message that is being rewritten, and the position reached."""

    def __init__(self, message: bytes, changes: Mapping[int, bytes]) -> None:
        self.message = message
        self.changes = changes
        self.cursor = Cursor(message)
        self.spans = 0  # spans left in the last container
        self.lost = 0  # spans removed from it

    def level(self, level: int, start: int, stop: int) -> bytes:
        """The new body of the container between `start` and `stop`."""
        cursor, down = self.cursor, _BELOW if level else _TOP
        pieces = []
        copied = start  # everything before this is in the pieces
        spans = lost = 0
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag != down:
                continue
            field, end = cursor.start, cursor.at
            new = self.span(field) if level == _SPAN_LEVEL else self.container(level, field, cursor.body, end)
            spans += self.spans
            lost += self.lost
            if new is not None:
                pieces.append(self.message[copied:field])
                pieces.append(new)
                copied = end
            cursor.at = end
        pieces.append(self.message[copied:stop])
        self.spans, self.lost = spans, lost
        return b"".join(pieces)

    def span(self, field: int) -> bytes | None:
        """The replacement of a span; None if it is unchanged."""
        new = self.changes.get(field)
        self.lost = 1 if new == b"" else 0
        self.spans = 1 - self.lost
        return new

    def container(self, level: int, field: int, body: int, end: int) -> bytes | None:
        """The replacement of a container; None if it is unchanged."""
        inner = self.level(level + 1, body, end)
        if self.lost and not self.spans:
            return b""
        if not self.lost and inner == self.message[body:end]:
            return None
        self.cursor.at = field
        self.cursor.varint(end)
        return self.message[field : self.cursor.at] + varint_bytes(len(inner)) + inner
