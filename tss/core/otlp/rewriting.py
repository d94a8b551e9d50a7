# cython: boundscheck=False, wraparound=False
"""Spans taken out of a message or put in the place of others, with every byte of the rest as it was."""

from collections.abc import Mapping

from tss.core.otlp.cursor import Cursor
from tss.core.otlp.wire import varint_bytes

# TracesData.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2, all length-delimited.
_TOP, _BELOW, _SPAN_LEVEL = 1 << 3 | 2, 2 << 3 | 2, 2


def rewritten(message: bytes, changes: Mapping[int, bytes]) -> bytes:
    """A serialized `TracesData` with some of its spans changed: by where a span's field starts, what stands there instead.

    Of what is around a changed span only the length changes. A ResourceSpans or ScopeSpans that loses its last span goes
    too, and what else was in it; one that never had a span stays.
    """
    return _Rewriting(message, changes).level(0, 0, len(message)) if changes else message


class _Rewriting:
    """One message, and where the walk over it has come."""

    def __init__(self, message: bytes, changes: Mapping[int, bytes]) -> None:
        self.message = message
        self.changes = changes
        self.cursor = Cursor(message)
        self.spans = 0  # that are left in the container that was walked last
        self.lost = 0  # that were there

    def level(self, level: int, start: int, stop: int) -> bytes:
        """The new body of the container between `start` and `stop`."""
        cursor, down = self.cursor, _BELOW if level else _TOP
        pieces = []
        copied = start  # what stands before is in the pieces
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
        """What stands in a span's place; None for the span itself."""
        new = self.changes.get(field)
        self.lost = 1 if new == b"" else 0
        self.spans = 1 - self.lost
        return new

    def container(self, level: int, field: int, body: int, end: int) -> bytes | None:
        """What stands in a container's place; None for itself."""
        inner = self.level(level + 1, body, end)
        if self.lost and not self.spans:
            return b""
        if not self.lost and inner == self.message[body:end]:
            return None
        self.cursor.at = field
        self.cursor.varint(end)
        return self.message[field : self.cursor.at] + varint_bytes(len(inner)) + inner
