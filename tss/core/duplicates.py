# cython: boundscheck=False, wraparound=False
"""Duplicate spans: a client or a collector sent a span again, and the topic has it twice."""

from tss.core.otlp.cursor import Cursor
from tss.core.otlp.rewriting import rewritten


def without_duplicates(payload: bytes) -> tuple[bytes, int]:
    """A trace's serialized `TracesData` without duplicate spans, and how many were removed; the same object if 0.

    The first of equal spans stays; the payload is in the order of offsets. Two spans are duplicates only if their bytes
    are equal. The same span id is not enough: forked processes and seeded SDKs give one id to different spans, and
    Zipkin's clients give one id to both halves of a call.
    """
    repeated = _Repeated(payload).found()
    if not repeated:
        return payload, 0
    return rewritten(payload, dict.fromkeys(repeated, b"")), len(repeated)


class _Repeated:
    """One pass over a payload."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.cursor = Cursor(payload)
        self.firsts: dict[bytes, int] = {}  # by span id: where the field of the first span with it starts
        self.others: set[bytes] = set()  # the fields of further spans with a known id and other bytes
        self.starts: list[int] = []

    def found(self) -> list[int]:
        """Where the fields of duplicates start."""
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
        """A span with a known id. Each field begins with its length, so equal bytes end at the same byte."""
        if whole in self.others or whole == self.payload[first : first + len(whole)]:
            self.starts.append(self.cursor.at - len(whole))
        else:
            self.others.add(whole)
