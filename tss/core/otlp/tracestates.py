# cython: boundscheck=False, wraparound=False
"""Changes the trace states of the spans of a message. All other bytes stay, the unknown fields and the order included."""

from collections.abc import Callable

from tss.core.otlp.cursor import Cursor
from tss.core.otlp.wire import varint_bytes

Change = Callable[[bytes], tuple[bytes | None, int]]
"""From a trace state to the new one, or None if it stays; and the number of the outcome, below OUTCOMES."""

OUTCOMES = 8

# TracesData.resource_spans = 1, ResourceSpans.scope_spans = 2, ScopeSpans.spans = 2, all length-delimited.
_TOP, _BELOW, _SPAN_LEVEL = 1 << 3 | 2, 2 << 3 | 2, 2
_STATE = 3 << 3 | 2  # Span.trace_state
_LAST = [bytes([low]) for low in range(128)]  # the last byte of a varint, and one that others follow
_MORE = [bytes([low | 128]) for low in range(128)]


def with_states(message: bytes, change: Change) -> tuple[bytes, list[int]]:
    """A serialized `TracesData` in which each span has the trace state that ``change`` gives it; the same object if all stay.

    Second, how many spans had each outcome. ``change`` is asked once for equal trace states that follow one another. A span
    without a trace state has the state ``b""``; a new one goes between its neighbours in the order of field numbers. Of
    several states in one span the last counts, as in protobuf, so that one is changed. Around a changed span only the
    lengths change. Raises WireError if the message is malformed.
    """
    made = _Restating(message, change)
    new = made.level(0, 0, len(message))
    return (message if new is None else new), made.outcomes


class _Restating:
    """One pass over a message."""

    def __init__(self, message: bytes, change: Change) -> None:
        self.message = message
        self.change = change
        self.cursor = Cursor(message)
        self.outcomes = [0] * OUTCOMES
        # The answer to the last question: most spans of a trace have the same trace state.
        self.asked = False
        self.old = b""
        self.field = b""  # the new field; empty if the old one stays
        self.outcome = 0

    def level(self, level: int, start: int, stop: int) -> bytes | None:
        """The new body of the container between `start` and `stop`; None if it stays."""
        cursor, message, down = self.cursor, self.message, _BELOW if level else _TOP
        pieces: list[bytes] = []
        copied = start  # everything before this is in the pieces
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag != down:
                continue
            field, end = cursor.start, cursor.at
            new = self.span(cursor.body, end) if level == _SPAN_LEVEL else self.level(level + 1, cursor.body, end)
            if new is not None:
                cursor.at = field
                cursor.varint(end)  # the tag
                pieces.append(message[copied : cursor.at])
                pieces.append(_length(len(new)))
                pieces.append(new)
                copied = end
            cursor.at = end
        if copied == start:
            return None
        pieces.append(message[copied:stop])
        return b"".join(pieces)

    def span(self, start: int, stop: int) -> bytes | None:
        """The new body of a span; None if it stays."""
        cursor, message = self.cursor, self.message
        place = end = -1  # of the field with the trace state
        after = stop  # the first field that belongs behind a trace state
        old = b""
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == _STATE:
                place, end = cursor.start, cursor.at
                old = message[cursor.body : end]
            elif after == stop and cursor.tag >= 4 << 3:
                after = cursor.start
        self.ask(old)
        self.outcomes[self.outcome] += 1
        if not self.field:
            return None
        if place < 0:
            place = end = after
        return message[start:place] + self.field + message[end:stop]

    def ask(self, old: bytes) -> None:
        """Set `field` and `outcome` for this trace state."""
        if self.asked and old == self.old:
            return
        new, self.outcome = self.change(old)
        self.asked, self.old = True, old
        self.field = b"" if new is None else bytes([_STATE]) + varint_bytes(len(new)) + new


def _length(size: int) -> bytes:
    """A length as a varint. Nearly all spans have fewer than 16 KiB."""
    if size < 128:
        return _LAST[size]
    if size < 128 * 128:
        return _MORE[size & 127] + _LAST[size >> 7]
    return varint_bytes(size)
