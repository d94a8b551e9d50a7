# cython: boundscheck=False, wraparound=False
"""Steps through the fields of a message, like `wire.fields`. It can be compiled, for work that is done for every span.

The caller keeps the bounds: it sets `at` to the place to continue, and gives `step` the end of the surrounding message.
"""

from tss.core.otlp.wire import WireError


class Cursor:
    """The field that was read last: its tag, where it starts and ends, where its content starts, and a varint's value."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.at = 0  # where the next field starts
        self.start = 0
        self.body = 0
        self.tag = 0
        self.value = 0

    def step(self, stop: int) -> None:
        """Read the field at `at`, and set `at` to its end. A group is one field. Raises WireError."""
        self.start = self.at
        self.tag = self.varint(stop)
        if self.tag & 7 == 3:  # a group; its content is skipped
            self.skip_group(stop)
        else:
            self.content(self.tag & 7, stop)

    def content(self, kind: int, stop: int) -> None:
        """Skip the content that follows a tag of this wire type."""
        self.body = self.at
        if kind == 0:
            self.value = self.varint(stop)
        else:
            self.sized(kind, stop)

    def sized(self, kind: int, stop: int) -> None:
        """Skip content whose size is known from its tag or its length."""
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
        """Read the varint at `at`, and set `at` to its end."""
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
