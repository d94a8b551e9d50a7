# cython: boundscheck=False, wraparound=False
"""The names of services and of root spans, interned: a trace carries two small numbers in place of two texts.

The names are read from the bytes of a fragment, when it is added to its trace. A trace belongs to the service of its root span.
While no root has come, it belongs to the service of the first resource in its first fragment.
"""

from __future__ import annotations

from tss.core.otlp.cursor import Cursor
from tss.core.otlp.wire import WireError

MOST = 4096  # names of each kind
MAX_CHARS = 200
ENTRY_BYTES = 300  # memory of a name: a bytes object, a text and their places, without the letters
UNKNOWN = 0
"""The number of a name that is missing."""
OTHER = 1
"""The number of all names for which there was no room."""
UNKNOWN_SERVICE = "unknown_service"  # the name that OpenTelemetry's SDKs use
TOO_MANY = "tss.other"

NEAR = 256  # names that are found without making an object of their bytes
_KEY = b"service.name"
_KEY_BYTES = len(_KEY)
_UNKNOWN, _OTHER = UNKNOWN, OTHER  # copies that are numbers of C where this is compiled


class Interned:
    """Names of one kind, by number. They are never forgotten; beyond MOST of them, or ``max_bytes``, all are OTHER."""

    def __init__(self, unknown: str, max_bytes: int) -> None:
        self._numbers: dict[bytes, int] = {b"": UNKNOWN}
        self._near = [b""] * NEAR  # names by their length and two letters; others with the same ones take their place
        self._near_numbers = [UNKNOWN] * NEAR
        self._max_bytes = max_bytes
        self.texts = [unknown, TOO_MANY]
        self.held_bytes = 0

    def number(self, name: bytes) -> int:
        """The number of a name, which a stranger wrote: any bytes, cut to MAX_CHARS characters."""
        found = self._numbers.get(name)
        return self._add(name) if found is None else found

    def number_at(self, message: bytes, start: int, stop: int) -> int:
        """The number of the name that these bytes of a message are."""
        if start >= stop:
            return _UNKNOWN
        place = (31 * (stop - start) + 7 * message[start] + message[stop - 1]) & 255
        if is_at(self._near[place], message, start, stop):
            return self._near_numbers[place]
        name = message[start:stop]
        number = self.number(name)
        if number != _OTHER:
            self._near[place], self._near_numbers[place] = name, number
        return number

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
        self._cursor = Cursor(b"")
        self._start = self._stop = 0  # of the name of the last root span

    @property
    def held_bytes(self) -> int:
        """Memory in bytes."""
        return self.services.held_bytes + self.roots.held_bytes

    def look(self, message: bytes, wants_root: bool) -> bool:
        """Read a serialized TracesData up to its first root span, or to its first resource. Returns whether it has that
        root. Broken bytes end the reading."""
        self.service = self.root = _UNKNOWN
        cursor = self._cursor
        cursor.message, cursor.at = message, 0
        try:
            return self._look(len(message), wants_root)
        except WireError:
            return False
        finally:
            cursor.message = b""  # whoever holds the bytes counts them (law 5)

    def _look(self, stop: int, wants_root: bool) -> bool:
        cursor = self._cursor
        first = True
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 10:  # TracesData.resource_spans
                end = cursor.at
                if self._resource_spans(cursor.body, end, first, wants_root):
                    return True
                if not wants_root:
                    return False
                first = False
                cursor.at = end
        return False

    def _resource_spans(self, at: int, stop: int, first: bool, wants_root: bool) -> bool:
        """Whether a root span is in it. Sets the service if there is one, or if it is the first."""
        cursor = self._cursor
        resource = resource_end = 0
        found = False
        cursor.at = at
        while cursor.at < stop:
            cursor.step(stop)
            end = cursor.at
            if cursor.tag == 10:  # ResourceSpans.resource
                resource, resource_end = cursor.body, end
            elif cursor.tag == 18 and wants_root and not found:  # ResourceSpans.scope_spans
                found = self._scope_spans(cursor.body, end)
                cursor.at = end
        if found:
            self.root = self.roots.number_at(cursor.message, self._start, self._stop)
        if found or first:
            self.service = self._service(resource, resource_end)
        return found

    def _scope_spans(self, at: int, stop: int) -> bool:
        cursor = self._cursor
        cursor.at = at
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 18:  # ScopeSpans.spans
                end = cursor.at
                if self._is_root(cursor.body, end):
                    return True
                cursor.at = end
        return False

    def _is_root(self, at: int, stop: int) -> bool:
        """Whether the span has no parent. If so, the place of its name is known.

        Every known encoder writes the fields in the order of their numbers, so the parent is expected before the name.
        """
        cursor = self._cursor
        self._start = self._stop = 0
        cursor.at = at
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 42:  # Span.name
                self._start, self._stop = cursor.body, cursor.at
                return True
            size = cursor.at - cursor.body
            if (
                cursor.tag == 34 and size and (size != 8 or cursor.fixed64())
            ):  # Span.parent_span_id; zeros count as none
                return False
        return True

    def _service(self, at: int, stop: int) -> int:
        cursor = self._cursor
        message = cursor.message
        cursor.at = at
        while cursor.at < stop:
            cursor.step(stop)
            if cursor.tag == 10 and cursor.at - cursor.body > _KEY_BYTES + 2:  # Resource.attributes
                start, end = cursor.body, cursor.at
                key = start + 2
                if (
                    message[start] == 10
                    and message[start + 1] == _KEY_BYTES
                    and is_at(_KEY, message, key, key + _KEY_BYTES)
                ):
                    return self._text(key + _KEY_BYTES, end)
        return _UNKNOWN

    def _text(self, at: int, stop: int) -> int:
        """The number of a KeyValue's text, whose value follows its key."""
        cursor = self._cursor
        cursor.at = at
        cursor.step(stop)
        if cursor.tag == 18 and cursor.at > cursor.body:  # KeyValue.value
            end = cursor.at
            cursor.at = cursor.body
            cursor.step(end)
            if cursor.tag == 10:  # AnyValue.string_value
                return self.services.number_at(cursor.message, cursor.body, cursor.at)
        return _UNKNOWN


def is_at(name: bytes, message: bytes, start: int, stop: int) -> bool:
    """Whether these bytes of a message are the name."""
    if len(name) != stop - start:
        return False
    for place in range(len(name)):  # noqa: SIM110  # as C it is a loop over two arrays
        if name[place] != message[start + place]:
            return False
    return True
