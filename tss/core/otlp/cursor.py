# cython: boundscheck=False, wraparound=False
"""A walk over the fields of a message, compiled where there is a compiler: `wire.fields` for what is done to every span.

Whoever walks keeps the bounds: `at` is set to where to go on, and `step` is told where the message around it stops.
"""

from tss.core.otlp.wire import WireError


class Cursor:
    """The field that was read last: its tag, from where to where it is, where its content starts; a varint's value."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.at = 0  # where the next field starts
        self.start = 0
        self.body = 0
        self.tag = 0
        self.value = 0

    def step(self, stop: int) -> None:
        """Read the field at `at`, a group as one, and leave `at` behind it. Raises WireError."""
        self.start = self.at
        self.tag = self.varint(stop)
        if self.tag & 7 == 3:  # a group; what it holds is passed over
            self.skip_group(stop)
        else:
            self.content(self.tag & 7, stop)

    def content(self, kind: int, stop: int) -> None:
        """Past what follows a tag of this wire type."""
        self.body = self.at
        if kind == 0:
            self.value = self.varint(stop)
        else:
            self.sized(kind, stop)

    def sized(self, kind: int, stop: int) -> None:
        """Past content whose size is known before."""
        size = 0
        if kind == 2:  # length-delimited
            size = self.varint(stop)
        elif kind == 1:  # fixed64
            size = 8
        elif kind == 5:  # fixed32
            size = 4
        else:
            raise WireError(f"unknown wire type {kind}", self.start)
        left = stop - self.at
        if size > left:
            raise WireError(f"a field that ends {size - left} bytes too late", self.start)
        self.body = self.at
        self.at += size

    def skip_group(self, stop: int) -> None:
        depth = 1
        while depth:
            kind = self.varint(stop) & 7
            if kind == 3:
                depth += 1
            elif kind == 4:
                depth -= 1
            else:
                self.content(kind, stop)

    def varint(self, stop: int) -> int:
        """The varint at `at`, and past it."""
        message = self.message
        value = shift = 0
        while self.at < stop and shift < 70:
            byte = message[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise WireError("a varint without an end", self.at)

    def fixed64(self) -> int:
        """The eight bytes of the field's content as a number."""
        message = self.message
        value = 0
        for place in range(8):
            value = value << 8 | message[self.body + 7 - place]
        return value
