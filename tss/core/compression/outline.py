# cython: boundscheck=False, wraparound=False
"""What compression reads from a trace: a few fields of each span, and all details of the spans that may be compressed."""

from tss.core.otlp.cursor import Cursor


class Seen:
    """A span's fields and its position in the payload. Fields after `end_ns` are filled by `Outline.look_at`."""

    __slots__ = (
        "attributes", "body", "code", "dropped_attributes", "dropped_events", "end_ns", "events", "excepted", "field",
        "kind", "linked", "name", "parent", "place", "span_id", "start_ns", "stop", "trace_state",
    )  # fmt: skip

    def __init__(self, field: int, body: int, stop: int, place: int) -> None:
        # Offsets in the payload: where the span's field starts, where its content starts, where both end.
        self.field = field
        self.body = body
        self.stop = stop
        self.place = place  # a number; equal for spans whose resource and scope are equal byte for byte
        self.span_id = b""
        self.parent = b""
        self.kind = 0
        self.code = 0  # the status code
        self.linked = False  # whether it has links
        self.start_ns = 0
        self.end_ns = 0
        self.name = b""
        self.trace_state = b""
        self.attributes: list[bytes] = []  # each a serialized KeyValue
        self.dropped_attributes = 0
        self.dropped_events = 0
        self.events = 0
        self.excepted = False  # whether one of its events is an exception

    def __repr__(self) -> str:
        return f"<Seen {self.span_id.hex()} below {self.parent.hex()} at {self.field}>"


class Outline:
    """All spans of a serialized `TracesData`. Raises WireError if the bytes cannot be parsed."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.cursor = Cursor(payload)
        self.spans: list[Seen] = []
        self.pointed_at: set[bytes] = set()  # ids that must not disappear: parents, linked spans, duplicate ids
        self.ids: set[bytes] = set()
        self.places: dict[tuple[bytes, bytes], int] = {}
        cursor, size = self.cursor, len(payload)
        while cursor.at < size:
            cursor.step(size)
            if cursor.tag == 0xA:
                self.resource(cursor.body, cursor.at)

    def around(self, start: int, stop: int) -> bytes:
        """What the spans share: the fields of a ResourceSpans without its ScopeSpans, or a ScopeSpans without its spans."""
        cursor, pieces = self.cursor, []
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag != 0x12:
                pieces.append(self.payload[cursor.start : cursor.at])
        return b"".join(pieces)

    def resource(self, start: int, stop: int) -> None:
        cursor, shared = self.cursor, self.around(start, stop)
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12:
                self.scope(shared, cursor.body, cursor.at)

    def scope(self, shared: bytes, start: int, stop: int) -> None:
        cursor = self.cursor
        place = self.places.setdefault((shared, self.around(start, stop)), len(self.places))
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12:
                self.span(Seen(cursor.start, cursor.body, cursor.at, place))

    def span(self, seen: Seen) -> None:
        cursor, payload = self.cursor, self.payload
        cursor.at = seen.body
        while cursor.at < seen.stop:
            cursor.step(seen.stop)
            tag = cursor.tag
            if tag == 0x12:
                seen.span_id = payload[cursor.body : cursor.at]
            elif tag == 0x22:
                seen.parent = payload[cursor.body : cursor.at]
            elif tag == 0x30:
                seen.kind = cursor.value & 0xFFFFFFFF
            elif tag == 0x39:
                seen.start_ns = cursor.fixed64()
            elif tag == 0x41:
                seen.end_ns = cursor.fixed64()
            elif tag == 0x6A:
                seen.linked = True
                self.link(cursor.body, cursor.at)
            elif tag == 0x7A:
                self.status(seen, cursor.body, cursor.at)
        self.note(seen)

    def note(self, seen: Seen) -> None:
        self.spans.append(seen)
        self.pointed_at.add(seen.parent)
        if seen.span_id in self.ids:
            self.pointed_at.add(seen.span_id)
        self.ids.add(seen.span_id)

    def link(self, start: int, stop: int) -> None:
        """Note the linked span's id. The link may point to another trace: then a span here merely stays uncompressed."""
        cursor = self.cursor
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12:
                self.pointed_at.add(self.payload[cursor.body : cursor.at])

    def status(self, seen: Seen, start: int, stop: int) -> None:
        cursor = self.cursor
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x18:
                seen.code = cursor.value & 0xFFFFFFFF

    def look_at(self, seen: Seen) -> None:
        """Fill the details of a span: name, trace state, attributes, dropped counts, events."""
        cursor, payload, attributes = self.cursor, self.payload, seen.attributes
        cursor.at = seen.body
        while cursor.at < seen.stop:
            cursor.step(seen.stop)
            tag = cursor.tag
            if tag == 0x4A:
                attributes.append(payload[cursor.body : cursor.at])
            elif tag == 0x2A:
                seen.name = payload[cursor.body : cursor.at]
            elif tag == 0x1A:
                seen.trace_state = payload[cursor.body : cursor.at]
            elif tag == 0x50:
                seen.dropped_attributes = cursor.value & 0xFFFFFFFF
            elif tag == 0x60:
                seen.dropped_events = cursor.value & 0xFFFFFFFF
            elif tag == 0x5A:
                seen.events += 1
                self.event(seen, cursor.body, cursor.at)

    def event(self, seen: Seen, start: int, stop: int) -> None:
        cursor = self.cursor
        cursor.at = start
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 0x12 and self.payload[cursor.body : cursor.at] == b"exception":
                seen.excepted = True

    def without(self, seen: Seen, numbers: frozenset[int]) -> bytes:
        """A span's serialized content without the fields of these numbers."""
        cursor, pieces = self.cursor, []
        cursor.at = seen.body
        while cursor.at < seen.stop:
            cursor.step(seen.stop)
            if cursor.tag >> 3 not in numbers:
                pieces.append(self.payload[cursor.start : cursor.at])
        return b"".join(pieces)
