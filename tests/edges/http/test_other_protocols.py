"""An answer that is no HTTP, or no OTLP: held, and named by what speaks there, never sent again and again in silence."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trustme

from tests.edges.http.test_otlphttp import exporter
from tests.edges.traces import trace
from tests.faulty import Fault, FaultProxy
from tests.sinks import OtlpSink
from tss.core.delivery import Accepted, Again, Misconfigured


@pytest.fixture
def sink():
    with OtlpSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.mark.parametrize(
    "headers",
    [
        "X-Server: a\x00b",
        "Content Type: text/plain",
        "Content-Length: 1\r\nContent-Length: 2",
        "Transfer-Encoding: odd",
    ],
)
async def test_a_success_whose_headers_are_not_http_is_held_and_told(sink, headers):
    """It has the batch. As trouble on the way it would be sent again at once, and again, and nobody would know why."""
    with FaultProxy(sink.port) as proxy:
        proxy.usual = Fault(answer=f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode(), close=True)
        async with exporter(proxy.url) as destination:
            outcome = await destination.send([trace(1)])
    assert sink.spans
    assert isinstance(outcome, Misconfigured) and outcome.reason == "stranger"
    assert "not HTTP/1.1" in outcome.detail


@asynccontextmanager
async def port_of(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that says this to whatever it hears, and hangs up."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65536)
            with suppress(trio.BrokenResourceError):
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


GRPC_GO = bytes.fromhex("000006040000000000 000500004000".replace(" ", ""))
GRPC_CORE = bytes.fromhex(
    "000018040000000000 000400400000 000500400000 000600004000 fe0300000001 000004080000000000 003f0001".replace(
        " ", ""
    )
)
NOT_GRPC = {
    "nothing": b"",
    "another frame": GRPC_GO.replace(b"\x00\x00\x06\x04", b"\x00\x00\x06\x03"),
    "a stream": GRPC_GO[:8] + b"\x01" + GRPC_GO[9:],
    "half a setting": b"\x00\x00\x05" + GRPC_GO[3:],
    "cut off": GRPC_GO[:8],
    "zeros": bytes(100),
}


@pytest.mark.parametrize("greeting", [GRPC_GO, GRPC_CORE], ids=["grpc-go", "grpc-core"])
@pytest.mark.parametrize("spans", [3, 3000])  # beyond what a server reads before it hangs up
async def test_a_port_of_grpc_is_named(greeting, spans):
    async with port_of(greeting) as url, exporter(url) as destination:
        outcome = await destination.send([trace(1, spans=spans)])
    assert isinstance(outcome, Misconfigured) and outcome.reason == "http2"
    assert "looks like a gRPC (HTTP/2) port; OTLP over HTTP is usually on port 4318" in outcome.detail


@pytest.mark.parametrize("name", NOT_GRPC)
async def test_what_does_not_begin_with_settings_is_not_called_grpc(name):
    async with port_of(NOT_GRPC[name]) as url, exporter(url) as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Again | Misconfigured) and outcome.reason in ("network", "stranger")
    assert "gRPC" not in outcome.detail


async def test_a_port_that_has_answered_in_http_is_not_asked_what_it_speaks(sink):
    """A connection that breaks is no news there, and each question is a connection more."""
    with FaultProxy(sink.port) as proxy:
        async with exporter(proxy.url) as destination:
            assert isinstance(await destination.send([trace(1)]), Accepted)
            proxy.script(Fault(forward=False, cut_answer=0))
            connections = proxy.connections
            outcome = await destination.send([trace(2)])
        assert isinstance(outcome, Again) and outcome.reason == "network"
        assert proxy.connections == connections


async def test_plain_http_to_tls_is_named():
    """A server that answers in TLS what is not TLS: an alert."""
    async with port_of(bytes.fromhex("15030100020246")) as url, exporter(url) as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Misconfigured) and outcome.reason == "tls"
    assert "must begin with https://" in outcome.detail


@pytest.mark.parametrize("protocols", [["h2"], []], ids=["ends the handshake", "begins with SETTINGS"])
async def test_grpc_behind_tls_is_named(authority, tmp_path, protocols):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(protocols)

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, OSError):
            tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            await tls.do_handshake()
            if not protocols:
                await tls.receive_some(65536)
                await tls.send_all(GRPC_GO)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"https://localhost:{listener.socket.getsockname()[1]}"
        async with exporter(url, ssl_ca_location=str(tmp_path / "ca.pem")) as destination:
            outcome = await destination.send([trace(1)])
        nursery.cancel_scope.cancel()
    assert isinstance(outcome, Misconfigured) and outcome.reason == "http2"
