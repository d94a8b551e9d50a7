# cython: boundscheck=False, wraparound=False
"""Spans that a trace has twice: sent again by a client or a collector, and both in the log."""

from tss.core.otlp.cursor import Cursor
from tss.core.otlp.rewriting import rewritten


def without_duplicates(payload: bytes) -> tuple[bytes, int]:
    """A trace's serialized `TracesData` with each span once, and how many were taken out: the very same object for none.

    The first one in the payload, which is in log order, stays. A span is a repetition only if the same bytes were there
    before. The same id is not enough: forked processes and seeded SDKs give one id to different spans, and Zipkin's
    clients give it to both halves of a call.
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
        self.firsts: dict[bytes, int] = {}  # where the field of the first span of an id starts
        self.others: set[bytes] = set()  # the fields of further spans with that id which say something else
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
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12:  # span_id
                span_id = self.payload[cursor.body : cursor.at]
        first = self.firsts.setdefault(span_id, field)
        if first != field:
            self.again(first, self.payload[field:stop])

    def again(self, first: int, whole: bytes) -> None:
        """A span whose id was there before. With the field's length in front, equal bytes have an equal end."""
        if whole in self.others or whole == self.payload[first : first + len(whole)]:
            self.starts.append(self.cursor.at - len(whole))
        else:
            self.others.add(whole)
