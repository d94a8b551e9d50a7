# cython: boundscheck=False, wraparound=False
"""The names of services and of root spans, interned: a trace carries two small numbers in place of two texts.

The names are read from the bytes of a fragment, when it is added to its trace. A trace belongs to the service of its root span.
While no root has come, it belongs to the service of the first resource in its first fragment.
"""

from __future__ import annotations

MOST = 4096  # names of each kind
MAX_CHARS = 200
ENTRY_BYTES = 300  # memory of a name: a bytes object, a text and their places, without the letters
UNKNOWN = 0
"""The number of a name that is missing."""
OTHER = 1
"""The number of all names for which there was no room."""
UNKNOWN_SERVICE = "unknown_service"  # the name that OpenTelemetry's SDKs use
TOO_MANY = "tss.other"

_KEY = b"service.name"
_KEY_BYTES = len(_KEY)


class Interned:
    """Names of one kind, by number. They are never forgotten; beyond MOST of them, or ``max_bytes``, all are OTHER."""

    def __init__(self, unknown: str, max_bytes: int) -> None:
        self._numbers: dict[bytes, int] = {b"": UNKNOWN}
        self._max_bytes = max_bytes
        self.texts = [unknown, TOO_MANY]
        self.held_bytes = 0

    def number(self, name: bytes) -> int:
        """The number of a name, which a stranger wrote: any bytes, cut to MAX_CHARS characters."""
        found = self._numbers.get(name)
        return self._add(name) if found is None else found

    def _add(self, name: bytes) -> int:
        text = name[: 4 * MAX_CHARS].decode("utf-8", "replace")[:MAX_CHARS]
        size = ENTRY_BYTES + len(name) + 4 * len(text)
        if len(self.texts) >= MOST or self.held_bytes + size > self._max_bytes:
            return OTHER
        number = len(self.texts)
        self.texts.append(text)
        self._numbers[name] = number
        self.held_bytes += size
        return number


class Names:
    """Finds the names in a fragment's bytes. ``service`` and ``root`` are what `look` found last."""

    def __init__(self, max_bytes: int = 1 << 20) -> None:
        self.services = Interned(UNKNOWN_SERVICE, max_bytes // 2)
        self.roots = Interned("", max_bytes // 2)
        self.service = UNKNOWN
        self.root = UNKNOWN
        self._at = 0  # where the last read ended; -1: the bytes are broken
        self._start = self._stop = 0  # of the name of the last root span

    @property
    def held_bytes(self) -> int:
        """Memory in bytes."""
        return self.services.held_bytes + self.roots.held_bytes

    def look(self, message: bytes, wants_root: bool) -> bool:
        """Read a serialized TracesData up to its first root span, or to its first resource. Returns whether it has that
        root. Broken bytes end the reading."""
        self.service = self.root = UNKNOWN
        at = 0
        stop = len(message)
        first = True
        while at < stop:
            tag = self._varint(message, at, stop)
            if tag == 10:  # TracesData.resource_spans
                start = self._content(message, stop)
                if start < 0:
                    return False
                at = self._at
                if self._resource_spans(message, start, at, first, wants_root):
                    return True
                first = False
                if not wants_root:
                    return False
            else:
                at = self._skip(message, stop, tag)
                if at < 0:
                    return False
        return False

    def _resource_spans(self, message: bytes, at: int, stop: int, first: bool, wants_root: bool) -> bool:
        """Whether a root span is in it. Sets the service if there is one, or if it is the first."""
        resource = end = 0
        found = False
        while at < stop:
            tag = self._varint(message, at, stop)
            if tag in (10, 18):  # ResourceSpans.resource, scope_spans
                start = self._content(message, stop)
                if start < 0:
                    break
                at = self._at
                if tag == 10:
                    resource, end = start, at
                elif wants_root and not found:
                    found = self._scope_spans(message, start, at)
            else:
                at = self._skip(message, stop, tag)
                if at < 0:
                    break
        if found:
            self.root = self.roots.number(message[self._start : self._stop])
        if found or first:
            self.service = self._service(message, resource, end)
        return found

    def _scope_spans(self, message: bytes, at: int, stop: int) -> bool:
        while at < stop:
            tag = self._varint(message, at, stop)
            if tag == 18:  # ScopeSpans.spans
                start = self._content(message, stop)
                if start < 0:
                    return False
                at = self._at
                if self._is_root(message, start, at):
                    return True
            else:
                at = self._skip(message, stop, tag)
                if at < 0:
                    return False
        return False

    def _is_root(self, message: bytes, at: int, stop: int) -> bool:
        """Whether the span has no parent. If so, the place of its name is known.

        Every known encoder writes the fields in the order of their numbers, so the parent is expected before the name.
        """
        self._start = self._stop = 0
        while at < stop:
            tag = self._varint(message, at, stop)
            if tag in (34, 42):  # Span.parent_span_id, name
                start = self._content(message, stop)
                if start < 0:
                    return False
                at = self._at
                if tag == 42:
                    self._start, self._stop = start, at
                    return True
                if at > start and not (at - start == 8 and _is_zero(message, start, at)):
                    return False
            else:
                at = self._skip(message, stop, tag)
                if at < 0:
                    return False
        return True

    def _service(self, message: bytes, at: int, stop: int) -> int:
        while at < stop:
            tag = self._varint(message, at, stop)
            if tag == 10:  # Resource.attributes
                start = self._content(message, stop)
                if start < 0:
                    return UNKNOWN
                at = self._at
                if at - start > _KEY_BYTES + 2 and message[start + 1] == _KEY_BYTES and message[start] == 10:
                    inside = start + 2
                    if message[inside : inside + _KEY_BYTES] == _KEY:
                        return self._text(message, inside + _KEY_BYTES, at)
            else:
                at = self._skip(message, stop, tag)
                if at < 0:
                    return UNKNOWN
        return UNKNOWN

    def _text(self, message: bytes, at: int, stop: int) -> int:
        """The number of a KeyValue's text, whose value follows its key."""
        if at < stop and self._varint(message, at, stop) == 18:  # KeyValue.value
            at = self._content(message, stop)
            if 0 <= at < self._at and self._varint(message, at, stop) == 10:  # AnyValue.string_value
                at = self._content(message, stop)
                if at >= 0:
                    return self.services.number(message[at : self._at])
        return UNKNOWN

    def _varint(self, message: bytes, at: int, stop: int) -> int:
        """The varint at this place; -1 if it is broken or does not fit into 63 bits."""
        value = shift = 0
        while at < stop and shift < 63:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self._at = at
                return value
            shift += 7
        self._at = stop
        return -1

    def _content(self, message: bytes, stop: int) -> int:
        """Where the content of a length-delimited field starts; -1 if it does not fit. Afterwards `_at` is its end."""
        size = self._varint(message, self._at, stop)
        start = self._at
        if size < 0 or size > stop - start:
            return -1
        self._at = start + size
        return start

    def _skip(self, message: bytes, stop: int, tag: int) -> int:
        """The place behind the field with this tag; -1 if it is broken, or a group."""
        kind = tag & 7
        if tag < 8:
            return -1
        if kind == 2:
            return self._at if self._content(message, stop) >= 0 else -1
        if kind == 0:
            return self._at if self._varint(message, self._at, stop) >= 0 else -1
        if kind == 1:
            return self._at + 8
        return self._at + 4 if kind == 5 else -1


def _is_zero(message: bytes, at: int, stop: int) -> bool:
    """Whether an id has only zeros: then it counts as missing."""
    while at < stop:
        if message[at]:
            return False
        at += 1
    return True
