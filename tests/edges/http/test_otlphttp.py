"""The OTLP/HTTP exporter against real servers on loopback."""

from __future__ import annotations

import gc
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trio
import trustme
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.contracts.destination import World, check_destination
from tests.core.spans import trace_id
from tests.edges.traces import span_ids, trace, trace_of
from tests.real.brokers import free_ports
from tests.sinks import OtlpSink, Reply
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Rejected
from tss.core.otlp import join
from tss.edges.http.answers import retry_after_secs
from tss.edges.http.gzip_body import THREAD_BYTES
from tss.edges.http.otlp_answers import PROTOBUF
from tss.edges.http.otlp_traces import PATH, OtlpTraces, open_otlp
from tss.edges.http.posting import post
from tss.settings import OtlpExporter


@pytest.fixture
def sink():
    with OtlpSink() as sink:
        yield sink


@asynccontextmanager
async def exporter(url: str, **settings) -> AsyncIterator[OtlpTraces]:
    defaults: dict[str, Any] = {"name": "backend", "endpoint": url, "request_timeout_secs": 5}
    async with open_otlp(OtlpExporter(**defaults | settings)) as destination:
        yield destination


async def outcome_of(sink: OtlpSink, reply: Reply, **settings) -> Outcome:
    sink.script(reply)
    async with exporter(sink.url, **settings) as destination:
        return await destination.send([trace(1)])


async def test_contract(sink):
    port = sink.port
    sinks = [sink]

    def go_away() -> None:
        sinks[-1].close()

    def come_back() -> None:
        if sinks[-1].closing.is_set():
            sinks.append(OtlpSink(port).__enter__())
        sinks[-1].usual = Reply()

    def hang() -> None:
        sinks[-1].usual = Reply(hang_secs=3)

    def taken() -> set:
        return {span for each in sinks for span in each.spans}

    async with exporter(sink.url) as destination:
        await check_destination(World(destination, taken, go_away, come_back, hang))
    sinks[-1].close()


async def test_bytes_in_bytes_out(sink):
    """Law 6: what the record had is what the backend gets, unknown fields and all, in the order it came."""
    unknown = b"\xfa\x7f\x03abc"  # field 2047, length-delimited
    traces = [trace_of([each.payload + unknown]) for each in (trace(1), trace(2))]
    async with exporter(sink.url, compression="none") as destination:
        await destination.send(traces)
    assert sink.requests[0].raw == join(each.payload for each in traces)
    assert sink.requests[0].raw.count(unknown) == 2


@pytest.mark.parametrize("spans", [3, 3000])  # the second on a thread
async def test_law_7_a_span_tells_how_many_it_stands_for(sink, spans):
    unknown = b"\xfa\x7f\x03abc"
    made = [trace_of([trace(number, 1, spans).payload + unknown], trace_id(number), rate=0.25) for number in (1, 2)]
    async with exporter(sink.url, compression="none", sample_rate_attribute="SampleRate") as destination:
        assert await destination.send(made) == Accepted()
    data = TracesData.FromString(sink.requests[0].body)
    found = [span for group in data.resource_spans for scope in group.scope_spans for span in scope.spans]
    told = [[(each.key, each.value.int_value) for each in span.attributes] for span in found]
    assert told == [[("SampleRate", 4)]] * (2 * spans)
    assert sink.requests[0].body.endswith(unknown)
    for span in found:
        del span.attributes[:]
    assert data == TracesData.FromString(join(each.payload for each in made))


async def test_what_was_sent_is_not_kept_until_the_garbage_collector_comes(sink):
    async with exporter(sink.url) as destination:
        body = bytes(bytearray(100_000))
        gc.disable()
        try:
            before = sys.getrefcount(body)
            await post(destination._client, PATH, body, {"Content-Type": PROTOBUF}, 5)
            assert sys.getrefcount(body) == before
        finally:
            gc.enable()
    assert sink.requests[0].headers["content-length"] == "100000"
    assert "transfer-encoding" not in sink.requests[0].headers


async def test_what_could_not_be_sent_is_not_kept_either():
    """While a destination is away every try would leave its body behind."""
    async with exporter(f"http://127.0.0.1:{free_ports(1)[0]}") as destination:
        body = bytes(bytearray(100_000))
        gc.disable()
        try:
            before = sys.getrefcount(body)
            assert isinstance(await post(destination._client, PATH, body, {}, 5), Again)
            assert sys.getrefcount(body) == before
        finally:
            gc.enable()


async def test_request_is_as_the_specification_says(sink):
    async with exporter(sink.url, headers={"X-Tenant": "shop"}, bearer_token="secret") as destination:
        await destination.send([trace(1)])
    request = sink.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/traces")
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["x-tenant"] == "shop"
    assert request.headers["user-agent"].startswith("tss/")


async def test_endpoint_may_have_a_path():
    async with exporter("http://127.0.0.1:1/otlp/tenant") as destination:
        request = destination._client.build_request("POST", "/v1/traces")
    assert str(request.url) == "http://127.0.0.1:1/otlp/tenant/v1/traces"


@pytest.mark.parametrize(
    ("compression", "spans", "compressed"),
    [("gzip", 2, False), ("gzip", 100, True), ("gzip", 20_000, True), ("none", 20_000, False)],
)
async def test_compression(sink, compression, spans, compressed):
    sent = [trace(1, pieces=1, spans=spans)]
    async with exporter(sink.url, compression=compression) as destination:
        assert await destination.send(sent) == Accepted()
    assert (sink.requests[0].headers.get("content-encoding") == "gzip") is compressed
    assert (len(sink.requests[0].raw) < len(sink.requests[0].body)) is compressed
    assert len(sink.requests[0].body) > THREAD_BYTES or spans < 20_000
    assert sink.requests[0].body == sent[0].payload
    assert sink.spans == span_ids(sent)


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_2xx_is_a_success(sink, status):
    assert await outcome_of(sink, Reply(status)) == Accepted()


async def test_a_cookie_that_a_server_sets_is_not_sent_back(sink):
    sink.script(Reply(headers={"Set-Cookie": "a=" + 1000 * "b"}), Reply())
    async with exporter(sink.url) as destination:
        for number in (1, 2):
            assert await destination.send([trace(number)]) == Accepted()
    assert "cookie" not in sink.requests[-1].headers


async def test_partial_success(sink):
    assert await outcome_of(sink, Reply(rejected_spans=2, message="too old")) == Accepted(2, "too old")
    assert await outcome_of(sink, Reply(message="soon full")) == Accepted(0, "soon full")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b""),
        Reply(body=b"{}", headers={"Content-Type": "application/json"}),
        Reply(body=b"\xef\xbb\xbf {}", headers={"Content-Type": "text/plain"}),
        Reply(body=b'{"partialSuccess": null}', headers={"Content-Type": "application/json; charset=utf-8"}),
        Reply(body=b" \n", headers={"Content-Type": "application/json"}),
        Reply(body=b"", headers={"Content-Type": "text/html"}),
        Reply(body=b"x" * (5 << 20)),
        Reply(body=b"not gzip", headers={"Content-Encoding": "gzip"}),
        Reply(body=b"ok", headers={"Content-Type": "text/plain"}),
        Reply(body=b"ok", headers={"Content-Type": ""}),
    ],
    ids=["empty", "JSON", "JSON as text", "null", "blank", "empty page", "5 MiB", "compressed", "words", "no type"],
)
async def test_an_answer_that_says_nothing_else_is_a_full_success(sink, reply):
    assert await outcome_of(sink, reply) == Accepted()


@pytest.mark.parametrize(
    "reply", [Reply(body=b"...", hang_body_secs=10), Reply(body=b"...", cut="body")], ids=["late", "cut"]
)
async def test_an_answer_whose_body_never_comes_is_a_full_success(sink, reply):
    """The status has said that the spans were taken: once more would make duplicates."""
    assert await outcome_of(sink, reply, request_timeout_secs=0.3) == Accepted()
    assert sink.spans == span_ids([trace(1)])


async def test_a_refusal_whose_body_never_comes_is_a_refusal(sink):
    outcome = await outcome_of(sink, Reply(400, body=b"...", hang_body_secs=10), request_timeout_secs=0.3)
    assert outcome == Rejected("http_400", "400 Bad Request", blames_data=True)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_is_tried_again(sink, status):
    outcome = await outcome_of(sink, Reply(status))
    assert isinstance(outcome, Again)
    assert (outcome.reason, outcome.after_secs) == (f"http_{status}", None)
    assert outcome.detail.startswith(str(status))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<!doctype html><title>Grafana</title>"),
        ("text/html", b"\xef\xbb\xbf<html>"),
        ("text/plain", b"\xef\xbb\xbf <html>"),
        ("application/xml", b"<?xml version='1.0'?><a/>"),
        ("application/x-protobuf", b"\n <html>"),
        ("application/x-protobuf", b"\x0a\xff"),
        ("application/octet-stream", b"\x00\x01junk"),
        ("application/grpc", b""),
        ("application/grpc+proto", b"\x00\x00\x00\x00\x00"),
        ("application/vnd.elasticsearch+json;compatible-with=8", b'{"error": "no such index"}'),
        ("application/problem+json", b'{"title": "nope"}'),
        ("text/json", b'{"status": "ok"}'),
        ("text/plain", b'{"status": "ok"}'),
        ("", b'\n{"status": "ok"}'),
        ("", b"[1]"),
        ("application/json", b"ok"),
        ("application/json", b"null"),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": "many"}}'),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": NaN}}'),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": 1e30}}'),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": [1]}}'),
        ("application/json", b'{"status": "ok"}'),
        ("application/json", b"[]"),
        ("application/json", b'{"partialSuccess": 7}'),
        ("application/json", b"{"),
        ("application/json", b"[" * 100_000),
    ],
)
async def test_a_success_that_no_otlp_server_sends_is_held(sink, kind, body):
    """A wrong port would else eat every kept trace, with all lights green."""
    outcome = await outcome_of(sink, Reply(headers={"Content-Type": kind}, body=body))
    assert isinstance(outcome, Misconfigured)
    assert outcome.reason == "stranger"
    assert "is not an answer of an OTLP server" in outcome.detail
    assert len(outcome.detail) <= 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too\\u0000 old"}}',
        b'{"partial_success": {"rejected_spans": 2, "error_message": "too old"}}',
        b'{"partialSuccess": {"rejectedSpans": "0.2e1", "errorMessage": "too old"}}',
        b'\xef\xbb\xbf{"partialSuccess": {"rejectedSpans": 2.0, "errorMessage": "too old"}}',
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
async def test_a_partial_success_in_json_is_seen(sink, kind, body):
    outcome = await outcome_of(sink, Reply(headers={"Content-Type": kind}, body=body))
    assert outcome == Accepted(2, "too old")


@pytest.mark.parametrize("size", b"<[{")
async def test_protobuf_whose_length_is_a_bracket_is_protobuf(sink, size):
    """The first byte is a line feed, the second the length."""
    words = "x" * (size - 4)
    assert await outcome_of(sink, Reply(rejected_spans=3, message=words)) == Accepted(3, words)


async def test_retry_after(sink):
    outcome = await outcome_of(sink, Reply(503, {"Retry-After": "7"}))
    assert isinstance(outcome, Again) and outcome.after_secs == 7
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    outcome = await outcome_of(sink, Reply(429, {"Retry-After": in_a_minute}))
    assert isinstance(outcome, Again) and outcome.after_secs == pytest.approx(60, abs=3)


@pytest.mark.parametrize(
    ("headers", "secs"),
    [
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "86400"}, 300),
        ({"retry-after": "9" * 400}, 300),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "Fri, 02 Jan 1970 00:00:00 GMT"}, 300),
        # The server's clock is an hour ahead of ours.
        ({"retry-after": "Thu, 01 Jan 1970 01:00:20 GMT", "date": "Thu, 01 Jan 1970 01:00:00 GMT"}, 20),
    ],
)
def test_retry_after_secs(headers, secs):
    assert retry_after_secs(headers, now=10.0) == secs


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404, 405, 407, 415])
async def test_what_a_setting_must_mend(sink, status):
    outcome = await outcome_of(sink, Reply(status, {"Location": "http://127.0.0.1:1/elsewhere"}, body=b"no"))
    assert isinstance(outcome, Misconfigured)
    assert outcome.reason == f"http_{status}"
    assert len(sink.requests) == 1, "a redirect is not followed"


async def test_wrong_token_is_named(sink):
    outcome = await outcome_of(
        sink, Reply(401, {"Content-Type": "text/plain"}, b"token expired"), bearer_token="secret"
    )
    assert outcome == Misconfigured(
        "http_401", "401 Unauthorized: token expired; check the exporter's bearerToken and headers"
    )


async def test_a_wrong_address_is_named(sink):
    outcome = await outcome_of(sink, Reply(404, {"Content-Type": "text/plain"}, b"no such page"))
    assert outcome == Misconfigured(
        "http_404",
        f"404 Not Found: no such page; the request went to {sink.url}/v1/traces: check the exporter's endpoint, to which the"
        " daemon adds /v1/traces",
    )


@pytest.mark.parametrize("status", [400, 408, 413, 422, 500, 501, 505, 599])
async def test_what_is_refused(sink, status):
    outcome = await outcome_of(sink, Reply(status, {"Content-Type": "text/plain"}, b"no\nway"))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == f"http_{status}"
    assert outcome.blames_data is (status in (400, 413, 422))
    assert outcome.detail.startswith(str(status)) and outcome.detail.endswith("no way")


async def test_the_message_of_a_status_is_read(sink):
    status = b"\x08\x03\x12\x0cbad trace id\x1a\x00"  # google.rpc.Status: code 3, message, details
    outcome = await outcome_of(sink, Reply(400, body=status))
    assert outcome == Rejected("http_400", "400 Bad Request: bad trace id", blames_data=True)
    outcome = await outcome_of(sink, Reply(400, body=b"\x12\xff"))
    assert outcome == Rejected("http_400", "400 Bad Request", blames_data=True)


async def test_details_are_short(sink):
    outcome = await outcome_of(sink, Reply(400, {"Content-Type": "text/html"}, b"<p>" * 100_000))
    assert isinstance(outcome, Rejected) and len(outcome.detail) < 500


async def test_nobody_listens():
    async with exporter(f"http://127.0.0.1:{free_ports(1)[0]}") as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Again) and outcome.reason == "connect" and "refused" in outcome.detail.lower()


async def test_no_such_host():
    async with exporter("http://no-such-host.invalid") as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Again) and outcome.reason == "connect" and outcome.detail


async def test_no_answer_in_time(sink):
    with trio.fail_after(10):
        outcome = await outcome_of(sink, Reply(hang_secs=60), request_timeout_secs=0.2)
    assert outcome == Again("timeout", "no answer within 0.2 s")


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_connection_cut(sink, cut):
    outcome = await outcome_of(sink, Reply(cut=cut))
    assert isinstance(outcome, Again) and outcome.reason == "network" and outcome.detail


async def test_a_server_that_speaks_no_http():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def answer() -> None:
            for _ in range(2):  # the second time it is asked what it speaks
                connection, _ = server.accept()
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        async with exporter(f"http://127.0.0.1:{server.getsockname()[1]}") as destination:
            outcome = await destination.send([trace(1)])
        thread.join()
    assert isinstance(outcome, Misconfigured) and outcome.reason == "stranger"
    assert "the answer is not HTTP/1.1; check the address and the port" in outcome.detail


@pytest.mark.parametrize("header", ["ünïcode", " spaces "])
async def test_headers_that_http_does_not_like_never_raise(sink, header):
    async with exporter(sink.url, bearer_token=header) as destination:
        assert isinstance(await destination.send([trace(1)]), Accepted | Misconfigured)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_sink(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with OtlpSink(tls=context) as sink:
        yield sink


async def test_tls_with_a_ca_of_ones_own(tls_sink, authority, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with exporter(tls_sink.url, ssl_ca_location=str(tmp_path / "ca.pem")) as destination:
        assert await destination.send([trace(1)]) == Accepted()
    assert tls_sink.spans == span_ids([trace(1)])


async def test_unknown_authority(tls_sink):
    async with exporter(tls_sink.url) as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Misconfigured) and outcome.reason == "tls"
    assert "certificate" in outcome.detail


async def test_tls_to_a_server_without(sink):
    async with exporter(sink.url.replace("http:", "https:")) as destination:
        outcome = await destination.send([trace(1)])
    assert isinstance(outcome, Again) and outcome.reason == "tls"


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("no certificate", "no certificates in it")])
async def test_unusable_ca_file_is_said_at_the_start(tmp_path, content, said):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(OSError, match=f"{said}.*{path}"):
        async with exporter("https://127.0.0.1:1", ssl_ca_location=str(path)):
            pass


@pytest.mark.parametrize(
    ("reply", "taken"),
    [
        (Reply(), True),
        (Reply(400), False),
        (Reply(503), False),
        (Reply(200, {"Content-Type": "text/html"}, b"<html>"), False),
    ],
)
async def test_a_knock_is_an_empty_request(sink, reply, taken):
    sink.script(reply)
    async with exporter(sink.url) as destination:
        assert await destination.knock() is taken
    assert [each.body for each in sink.requests] == [b""]
