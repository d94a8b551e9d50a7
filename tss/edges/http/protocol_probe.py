"""Finds out which protocol a port speaks that does not answer in HTTP/1.1, from the first bytes of its answer.

An HTTP client drops these bytes, so an exporter at a gRPC port would only report a broken connection. gRPC servers (grpc-go,
grpcio, Netty) begin with their SETTINGS frame, whatever the request is (RFC 9113, 3.4 and 6.5).
"""

from __future__ import annotations

import ssl

import httpx
import trio

MAX_SECS = 2.0

HTTP2 = "this looks like a gRPC (HTTP/2) port; OTLP over HTTP is usually on port 4318"
TLS = "this port speaks TLS; the address must begin with https://"

_FRAME_HEAD_BYTES = 9  # length (3), type, flags, stream (4)
_SETTINGS, _SETTING_BYTES = 4, 6
_MOST_SETTINGS_BYTES = 100 * _SETTING_BYTES
_ALERT, _MAJOR_VERSION = 21, 3  # the first two bytes of a TLS record


async def other_protocol(url: httpx.URL) -> str:
    """The protocol, for people; empty if it is HTTP/1.1 or cannot be recognised. The probe sends no secret."""
    with trio.move_on_after(MAX_SECS):
        try:
            return await (_behind_tls(url) if url.scheme == "https" else _in_plain(url))
        except (OSError, trio.BrokenResourceError):
            return ""
    return ""


async def _in_plain(url: httpx.URL) -> str:
    async with await trio.open_tcp_stream(url.host, url.port or 80) as stream:
        first = await _answer(stream, url.host)
    return TLS if first[:2] == bytes((_ALERT, _MAJOR_VERSION)) else _named(first)


async def _behind_tls(url: httpx.URL) -> str:
    """Some HTTP/2 servers take a client without HTTP/2 and begin with SETTINGS anyway. Others end the handshake or the connection."""
    try:
        async with await _open(url, "http/1.1") as stream:
            await stream.do_handshake()
            if stream.selected_alpn_protocol() == "http/1.1":
                return ""
            if found := _named(await _answer(stream, url.host)):
                return found
    except (ssl.SSLError, OSError, trio.BrokenResourceError):
        pass  # no protocol in common
    async with await _open(url, "h2") as stream:
        await stream.do_handshake()
        return HTTP2 if stream.selected_alpn_protocol() == "h2" else ""


async def _open(url: httpx.URL, protocol: str) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.create_default_context()
    # Any server may answer: the probe sends it nothing secret.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    # So that closing does not wait for the server to end TLS.
    return await trio.open_ssl_over_tcp_stream(url.host, url.port or 443, ssl_context=context, https_compatible=True)


async def _answer(stream: trio.abc.Stream, host: str) -> bytes:
    """The first bytes, as many as show the protocol; fewer if the connection ends."""
    await stream.send_all(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    first = b""
    while len(first) < _FRAME_HEAD_BYTES:
        piece = await stream.receive_some(_FRAME_HEAD_BYTES - len(first))
        if not piece:
            break
        first += piece
    return first


def _named(first: bytes) -> str:
    length, stream = int.from_bytes(first[:3]), first[5:_FRAME_HEAD_BYTES]
    if len(first) < _FRAME_HEAD_BYTES or first[3] != _SETTINGS or any(stream):
        return ""
    return HTTP2 if length % _SETTING_BYTES == 0 and length <= _MOST_SETTINGS_BYTES else ""
