# cython: boundscheck=False, wraparound=False
"""Spans that a trace has twice: sent again by a client or a collector, and both in the log."""

from tss.core.otlp.cursor import Cursor
from tss.core.otlp.rewriting import rewritten


def without_duplicates(payload: bytes) -> tuple[bytes, int]:
    """A trace's serialized `TracesData` with each span once, and how many were taken out: the very same object for none.

    The one that is first in the payload, which is in log order, stays. A span is a repetition if one of the same id and
    kind was there before: of another kind it is another span, for Zipkin's clients give both halves of a call one id.
    """
    repeated = _Repeated(payload).found()
    if not repeated:
        return payload, 0
    return rewritten(payload, dict.fromkeys(repeated, b"")), len(repeated)


class _Repeated:
    """The walk over one payload."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.cursor = Cursor(payload)
        self.kinds: dict[bytes, int] = {}  # of the first span of an id
        self.others: set[tuple[bytes, int]] = set()  # of further spans of an id that is not a repetition
        self.starts: list[int] = []

    def found(self) -> list[int]:
        """Where the fields of repetitions start."""
        cursor, size = self.cursor, len(self.payload)
        while cursor.at < size:
            cursor.step(size)
            if cursor.tag == 0xA:
                self.resource(cursor.body, cursor.at)
        return self.starts

    def resource(self, start: int, stop: int) -> None:
        cursor = self.cursor
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12:
                self.scope(cursor.body, cursor.at)

    def scope(self, start: int, stop: int) -> None:
        cursor = self.cursor
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12:
                self.span(cursor.start, cursor.body, cursor.at)

    def span(self, field: int, start: int, stop: int) -> None:
        cursor = self.cursor
        span_id = b""
        kind = 0
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12:  # span_id
                span_id = self.payload[cursor.body : cursor.at]
            elif cursor.tag == 0x30:
                kind = cursor.value & 0xFFFFFFFF
        if span_id not in self.kinds:
            self.kinds[span_id] = kind
        elif self.kinds[span_id] == kind or (span_id, kind) in self.others:
            self.starts.append(field)
        else:
            self.others.add((span_id, kind))
