# cython: boundscheck=False, wraparound=False
"""Changes the trace states of the spans of a message. All other bytes stay, the unknown fields and the order included.

`restating` does the same for valid messages, several times faster. This module is its reference, and takes its place for
malformed messages and where nothing is compiled.
"""

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

    Second, how many spans had each outcome. ``change`` gives equal answers for equal trace states: it is not asked
    for every span. A span without a trace state has the state ``b""``; a new one goes between its neighbours in the order of
    field numbers. If one span has several trace states, the last one counts, as in protobuf, so that one is changed. Around a
    changed span only the lengths change. Raises WireError if the message is malformed.
    """
    made = _Restating(message, change)
    new = made.level(0, 0, len(message))
    made.settle()
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
        self.changes = False  # whether there is a new field
        self.field = b""
        self.outcome = 0
        self.times = 0  # spans with this answer
        self.place = self.end = 0

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
            field, body, end = cursor.start, cursor.body, cursor.at
            if level == _SPAN_LEVEL:
                if self.find(body, end):
                    pieces.append(message[copied : self.after_tag(field, end)])
                    pieces.append(_length(end - body - (self.end - self.place) + len(self.field)))
                    pieces.append(message[body : self.place])
                    pieces.append(self.field)
                    copied = self.end
            else:
                new = self.level(level + 1, body, end)
                if new is not None:
                    pieces.append(message[copied : self.after_tag(field, end)])
                    pieces.append(_length(len(new)))
                    pieces.append(new)
                    copied = end
            cursor.at = end
        if not pieces:
            return None
        pieces.append(message[copied:stop])
        return b"".join(pieces)

    def after_tag(self, field: int, stop: int) -> int:
        """Where the length of a field begins."""
        self.cursor.at = field
        self.cursor.varint(stop)
        return self.cursor.at

    def find(self, start: int, stop: int) -> bool:
        """Whether the span gets a new trace state: then `field` is to stand between `place` and `end`."""
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
        if not self.asked or old != self.old:
            self.ask(old)
        self.times += 1
        if place < 0:
            place = end = after
        self.place, self.end = place, end
        return self.changes

    def ask(self, old: bytes) -> None:
        """Set `field` for this trace state."""
        self.settle()
        new, self.outcome = self.change(old)
        self.asked, self.old, self.changes = True, old, new is not None
        self.field = b"" if new is None else bytes([_STATE]) + varint_bytes(len(new)) + new

    def settle(self) -> None:
        """Count the spans with the last answer."""
        self.outcomes[self.outcome] += self.times
        self.times = 0


def _length(size: int) -> bytes:
    """A length as a varint. Nearly all spans have fewer than 16 KiB."""
    if size < 128:
        return _LAST[size]
    if size < 128 * 128:
        return _MORE[size & 127] + _LAST[size >> 7]
    return varint_bytes(size)
