"""Requests and responses of the daemon's HTTP server, as its pages see them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

import attrs
import trio
from isal import isal_zlib

ADMIN_PATH = "/admin/force-rules"
EXPORTERS_PATH = "/admin/exporters"
POLICIES_PATH = "/admin/policies"
ADMIN_PATHS = (ADMIN_PATH, EXPORTERS_PATH, POLICIES_PATH)
API_PATH = "/api"
MAX_BODY_BYTES = 256 * 1024  # of an admin request; a force rule has some hundred bytes, a policy too

GZIP_LEVEL = 1  # ISA-L: 400 MB/s
GZIP_WBITS = 31  # a window of 32 kB in a gzip member
PART_BYTES = 256 * 1024


@attrs.frozen
class AdminRequest:
    """The parts of a request that the admin pages and those under /api need."""

    method: str
    path: str
    authorization: str = ""
    if_match: str = ""
    body: bytes = b""
    remote: str = ""
    query: str = ""
    sender: str = ""  # its From header


@attrs.frozen
class AcceptHeaders:
    """The formats that a client can read."""

    types: str = ""  # its Accept header
    gzip: bool = False


@attrs.frozen
class HttpResponse:
    """One response."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    long_body: GzipBody | None = None  # in place of `body`

    @property
    def content(self) -> bytes | AsyncIterator[bytes]:
        """The bytes to send."""
        if self.long_body is None:
            return self.body
        return self.long_body.gzip() if "Content-Encoding" in self.headers else self.long_body.plain()


def json_response(status: int, content: Mapping[str, object], headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A response in JSON."""
    return HttpResponse(status, json.dumps(content, indent=2).encode() + b"\n", headers=headers or {})


def error_response(
    status: int, error: str, *, fields: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """A response that says what is wrong, and with which fields of the request."""
    return json_response(status, {"error": error, **({"fields": fields} if fields else {})}, headers)


class GzipBody:
    """A body of any length, held in gzip: the text of metrics shrinks to a tenth or a twentieth."""

    def __init__(self) -> None:
        self._deflate = isal_zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WBITS)
        self._chunks: list[bytes] = []
        self.plain_bytes = 0
        self.gzip_bytes = 0

    def add(self, piece: bytes) -> None:
        """Append to the body."""
        self.plain_bytes += len(piece)
        self._keep(self._deflate.compress(piece))

    def end(self) -> None:
        """Finish the body: nothing is added any more."""
        self._keep(self._deflate.flush())

    def _keep(self, chunk: bytes) -> None:
        self.gzip_bytes += len(chunk)
        if chunk:
            self._chunks.append(chunk)

    async def gzip(self) -> AsyncIterator[bytes]:
        """The body in gzip."""
        for chunk in self._chunks:
            yield chunk

    async def plain(self) -> AsyncIterator[bytes]:
        """The plain body, for a client that takes no gzip; the event loop does other work between the parts."""
        inflate = isal_zlib.decompressobj(wbits=GZIP_WBITS)
        for chunk in self._chunks:
            rest = chunk
            while rest:
                part = inflate.decompress(rest, PART_BYTES)
                rest = inflate.unconsumed_tail
                if part:
                    yield part
                    await trio.lowlevel.checkpoint()
        if part := inflate.flush():
            yield part
