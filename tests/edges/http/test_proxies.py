"""Proxies and certificates from the environment: who goes which way, what is wrong is told, and real proxies on loopback."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, Self

import pytest
import structlog.testing
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from tests.edges.http.test_otlphttp import exporter
from tests.edges.traces import trace
from tests.faulty import Fault, FaultProxy, answering
from tests.real.brokers import free_ports
from tests.sinks import OtlpSink
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome
from tss.core.errors import WrongSetting
from tss.edges import preflight
from tss.edges.http.otlp_metrics import open_otlp_metrics
from tss.edges.http.proxies import Proxy, decide, proxy_for, secrets
from tss.edges.redis.endpoint import RedisEndpoint
from tss.edges.tls import trusted
from tss.settings import Datadog, DatadogExporter, Redis, Settings, SpanMetricsSettings

SQUID = "http://squid:3128"


# Which way


def goes_by_proxy(url: str, no_proxy: str) -> bool:
    try:
        return proxy_for(url, {"ALL_PROXY": SQUID, "NO_PROXY": no_proxy}) is not None
    except WrongSetting as error:
        pytest.fail(f"this may stand in NO_PROXY: {error}")


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("*", "anything.example"),
        ("a.example", "a.example"),
        ("a.example", "A.Example."),
        ("a.example", "deep.b.a.example"),
        (".a.example", "b.a.example"),
        ("*.a.example", "b.a.example"),
        ("x, a.example ,y", "a.example"),
        ("x a.example", "a.example"),
        ("/var/run/docker.sock,a.example", "a.example"),
        ("a.example:4318", "a.example:4318"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.9.9.9/8", "10.1.2.3"),
        ("10.0.0.0/8:4318", "10.1.2.3:4318"),
        ("fd00::1", "[fd00::1]"),
        ("[fd00::1]", "[fd00::1]"),
        ("[fd00::1]:4318", "[fd00::1]:4318"),
        ("FD00:0:0::1", "[fd00::1]"),
        ("[::1],fd00::/8", "[fd12::34]"),
        ("[fd00::]/8", "[fd12::34]"),
        ("10.0.0.0/8", "[::ffff:10.1.2.3]"),
        ("", "localhost"),
        ("", "127.8.8.8:99"),
        ("", "[::1]"),
    ],
)
def test_what_needs_no_proxy(no_proxy, host):
    assert not goes_by_proxy(f"http://{host}", no_proxy)
    assert not goes_by_proxy(f"https://{host}", no_proxy)


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", "a.example"),
        (" , ", "a.example"),
        (".a.example", "a.example"),
        ("*.a.example", "a.example"),
        ("a.example", "xa.example"),
        ("a.example", "a.example.org"),
        ("a.example:4318", "a.example:4317"),
        ("a.example:4318", "a.example"),
        ("10.0.0.0/8", "11.1.2.3"),
        ("10.0.0.0/8", "10.example"),
        ("10.0.0.0/8:4318", "10.1.2.3:80"),
        ("fd00::/8", "[fe00::1]"),
        ("::/0", "10.1.2.3"),
        ("0.0.0.0/0", "[fd00::1]"),
        ("[::1]", "a.example"),
    ],
)
def test_what_needs_one(no_proxy, host):
    assert goes_by_proxy(f"http://{host}", no_proxy)


@given(st.ip_addresses(), st.data())
def test_an_address_is_exempt_exactly_within_its_network(address, data):
    bits = 32 if address.version == 4 else 128
    network = ip_network((int(address), data.draw(st.integers(0, bits))), strict=False)
    if address.version == 6:
        network = ip_network(f"{address}/{data.draw(st.integers(0, bits))}", strict=False)
    other = data.draw(st.ip_addresses(v=address.version))
    for each in (address, other):
        by_proxy = decide("http", str(each), 80, {"http_proxy": SQUID, "no_proxy": f"x,{network}"}) is not None
        mapped = getattr(each, "ipv4_mapped", None)
        assert by_proxy == (each not in network and not each.is_loopback and not (mapped and mapped.is_loopback))


def answer(scheme: str, host: str, environ: Mapping[str, str]) -> Proxy | str | None:
    try:
        return decide(scheme, host, 443, environ)
    except WrongSetting as error:
        return str(error)


TEXTS = st.text(max_size=30) | st.text("ahtps:/@[]%.,*10 #?", max_size=30)


@given(TEXTS, TEXTS, st.sampled_from(["http", "https"]))
def test_whatever_stands_there_it_is_an_answer_or_one_line_with_the_variable(proxy, no_proxy, scheme):
    environ = {f"{scheme.upper()}_PROXY": proxy, "NO_PROXY": no_proxy}
    for host in ("a.example", "fd00::1", "10.0.0.1"):
        found = answer(scheme, host, environ)
        if isinstance(found, str):
            assert found.startswith((f"{scheme.upper()}_PROXY: ", "NO_PROXY: "))
            assert found.isprintable()
        else:
            assert found is None or (found.host and 0 < found.port < 65536)


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"HTTPS_PROXY": SQUID, "ALL_PROXY": "http://other"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://upper", "https_proxy": SQUID}, "https_proxy"),
        ({"HTTPS_PROXY": "http://upper", "https_proxy": "", "all_proxy": SQUID}, "all_proxy"),
        ({"HTTP_PROXY": "http://other", "ALL_PROXY": SQUID}, "ALL_PROXY"),
        ({"HTTPS_PROXY": "", "ALL_PROXY": f" {SQUID}\n"}, "ALL_PROXY"),
        ({"https_proxy": "squid:3128"}, "https_proxy"),
        ({"https_proxy": "http://squid:3128/"}, "https_proxy"),
    ],
)
def test_which_variable_counts(environ, variable):
    assert proxy_for("https://a.example", environ) == Proxy(variable, "http", "squid", 3128)


def test_plain_http_has_a_variable_of_its_own():
    assert proxy_for("http://a.example", {"HTTPS_PROXY": SQUID}) is None
    assert proxy_for("http://a.example", {"HTTP_PROXY": SQUID}) == Proxy("HTTP_PROXY", "http", "squid", 3128)
    assert proxy_for("http://a.example", {"HTTP_PROXY": SQUID, "http_proxy": ""}) is None


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("https://squid", Proxy("ALL_PROXY", "https", "squid", 443)),
        ("http://[fd00::1]:8", Proxy("ALL_PROXY", "http", "fd00::1", 8)),
        ("http://joe:p%40ss@squid", Proxy("ALL_PROXY", "http", "squid", 80, ("joe", "p@ss"))),
        ("http://token@squid", Proxy("ALL_PROXY", "http", "squid", 80, ("token", ""))),
    ],
)
def test_the_address_of_a_proxy(value, proxy):
    assert proxy_for("https://a.example", {"ALL_PROXY": value}) == proxy
    assert "p@ss" not in repr(proxy) and "token" not in repr(proxy)


@pytest.mark.parametrize(
    "value",
    [
        "http://",
        "http://squid:99999",
        "http://squid:port",
        "http://squid:0",
        "http://[fd00::1",
        "http://squ id",
        "http://joe:sec\nret@squid",
        "http://joe:top/secret@squid:3128",
        "http://joe:top#secret@squid:3128",
        "http://joe:top?secret@squid:3128",
        "http://squid/path",
        "socks5://joe:secret@squid:1080",
        "socks5h://squid:1080",
        "ftp://squid",
    ],
)
def test_what_is_no_proxy_is_told_without_its_password(value):
    with pytest.raises(WrongSetting, match=r"^ALL_PROXY: ") as told:
        proxy_for("https://a.example", {"ALL_PROXY": value})
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.0/99", "192.168.", "10.*", "http://a.example", "*a.example", "a..b", "[::1", "<local>", "::1/129", ":80"],
)
def test_an_entry_that_would_match_nothing_is_told(entry):
    with pytest.raises(WrongSetting, match=r"^no_proxy: ") as told:
        proxy_for("https://a.example", {"ALL_PROXY": SQUID, "no_proxy": f"a.example,{entry}"})
    assert repr(entry) in str(told.value)


def test_what_is_not_needed_is_not_told():
    """A pod may have variables of others: exit code 2 is for what stands in our own way."""
    wrong = {"ALL_PROXY": "socks5://squid", "NO_PROXY": "a.example"}
    assert proxy_for("https://a.example", wrong) is None
    assert proxy_for("https://localhost:4318", wrong) is None
    assert proxy_for("https://b.example", wrong | {"https_proxy": SQUID}) is not None
    assert proxy_for("https://b.example", {"NO_PROXY": "10.0.0.0/99"}) is None


def test_passwords_are_known_to_the_log():
    environ = {"http_proxy": "http://joe:p%40ss@squid", "ALL_PROXY": "token@squid", "HTTPS_PROXY": SQUID}
    assert {*secrets(environ)} == {"p%40ss", "p@ss", "token"}


# Real proxies


class LoopbackProxy:
    """Forwards plain requests, and opens tunnels, always to one port of loopback, whatever host was asked for."""

    def __init__(self, port: int, credentials: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        expected = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else None
        asked = self.asked

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode()
                headers = {}
                while (header := self.rfile.readline().decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                asked.append(line.rpartition(" ")[0])
                if expected not in (None, headers.get("proxy-authorization")):
                    self.wfile.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return
                with socket.create_connection(("127.0.0.1", port)) as backend:
                    if line.startswith("CONNECT "):
                        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                        self._tunnel(backend)
                    else:
                        self._forward(backend, line, headers)

            def _forward(self, backend: socket.socket, line: str, headers: Mapping[str, str]) -> None:
                method, url, version = line.split()
                path = f"/{url.split('/', 3)[3]}"
                kept = {name: value for name, value in headers.items() if name != "proxy-authorization"}
                head = "".join(f"{name}: {value}\r\n" for name, value in (kept | {"connection": "close"}).items())
                body = self.rfile.read(int(headers["content-length"]))
                backend.sendall(f"{method} {path} {version}\r\n{head}\r\n".encode() + body)
                backend.shutdown(socket.SHUT_WR)
                while piece := backend.recv(65536):
                    self.wfile.write(piece)

            def _tunnel(self, backend: socket.socket) -> None:
                back = threading.Thread(target=self._copy, args=(backend, self.connection), daemon=True)
                back.start()
                self._copy(self.connection, backend)
                back.join()

            @staticmethod
            def _copy(source: socket.socket, target: socket.socket) -> None:
                try:
                    while piece := source.recv(65536):
                        target.sendall(piece)
                    target.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # one side has gone

        class Server(ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A handshake that fails is what a test is about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("SSL")]:
        monkeypatch.delenv(name)


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def outcome(url: str, **settings: Any) -> Outcome:
    async with exporter(url, **settings) as destination:
        return await destination.send([trace(1)])


async def test_plain_requests_are_forwarded(monkeypatch):
    with OtlpSink() as sink, LoopbackProxy(sink.port, "joe:p@ss") as proxy, structlog.testing.capture_logs() as logged:
        monkeypatch.setenv("HTTP_PROXY", f"http://joe:p%40ss@127.0.0.1:{proxy.port}")
        assert isinstance(await outcome("http://collector.test:4318"), Accepted)
    assert proxy.asked == ["POST http://collector.test:4318/v1/traces"]
    [request] = sink.requests
    assert "proxy-authorization" not in request.headers
    [line] = [line for line in logged if "proxy" in line]
    assert (line["to"], line["proxy"]) == ("collector.test", f"http://127.0.0.1:{proxy.port}")
    assert "joe" not in str(logged) and "p@ss" not in str(logged) and "p%40ss" not in str(logged)


async def test_tls_goes_through_a_tunnel_and_nobody_between_is_told_the_token(monkeypatch, authority, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = server_context(authority, "collector.test")
    with OtlpSink(tls=tls) as sink, LoopbackProxy(sink.port, "joe:pass") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://joe:pass@127.0.0.1:{proxy.port}")
        assert isinstance(await outcome("https://collector.test", bearer_token="token"), Accepted)
    assert proxy.asked == ["CONNECT collector.test:443"]
    assert sink.requests[0].headers["authorization"] == "Bearer token"
    assert "proxy-authorization" not in sink.requests[0].headers


async def test_a_proxy_that_speaks_tls_itself_is_trusted_by_the_environment_s_certificates(
    monkeypatch, authority, tmp_path
):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    with OtlpSink() as sink, LoopbackProxy(sink.port, tls=server_context(authority, "localhost")) as proxy:
        monkeypatch.setenv("http_proxy", f"https://localhost:{proxy.port}")
        assert isinstance(await outcome("http://collector.test"), Misconfigured)  # nobody has told whom to trust
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert isinstance(await outcome("http://collector.test"), Accepted)


async def test_a_wrong_password_and_a_proxy_that_is_away_are_held(monkeypatch):
    with OtlpSink() as sink, LoopbackProxy(sink.port, "joe:right") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://joe:wrong@127.0.0.1:{proxy.port}")
        plain, tunnelled = await outcome("http://collector.test"), await outcome("https://collector.test")
    monkeypatch.setenv("ALL_PROXY", f"http://joe:wrong@127.0.0.1:{free_ports(1)[0]}")
    away = await outcome("http://collector.test")
    for refused in (plain, tunnelled):  # one name, whether it is the answer to a request or to a CONNECT
        assert isinstance(refused, Misconfigured) and refused.reason == "http_407"
        assert refused.detail.startswith("407 ")
        assert refused.detail.endswith(f"(through the proxy http://127.0.0.1:{proxy.port} of ALL_PROXY)")
    assert isinstance(away, Again) and away.reason == "connect" and "through the proxy http://127.0.0.1:" in away.detail
    assert "wrong" not in f"{plain}{tunnelled}{away}"
    assert not sink.requests


@pytest.mark.parametrize(("status", "kind"), [(403, Misconfigured), (502, Again), (503, Again)])
async def test_a_proxy_that_opens_no_tunnel_is_named(monkeypatch, status, kind):
    with FaultProxy(1) as proxy:
        proxy.usual = answering(status)
        monkeypatch.setenv("ALL_PROXY", f"http://joe:secret@127.0.0.1:{proxy.port}")
        told = await outcome("https://collector.test")
    assert isinstance(told, kind) and told.reason == "proxy" and str(status) in told.detail
    assert told.detail.endswith(f"(through the proxy {proxy.url} of ALL_PROXY)") and "secret" not in str(told)


@pytest.mark.parametrize(
    "fault",
    [
        answering(503),
        answering(400),
        answering(200, {"Content-Type": "text/html"}, b"<html>please log in"),
        Fault(forward=False, cut_answer=0),
        Fault(forward=False, hang=60),
        Fault(forward=False, answer=b"SSH-2.0\r\n\r\n", close=True),
    ],
    ids=["503", "400", "a page", "cut", "hangs", "no HTTP"],
)
async def test_whatever_goes_wrong_behind_a_proxy_names_it(monkeypatch, fault):
    """It may have been the proxy's answer, and an operator looks at the destination otherwise."""
    with FaultProxy(1) as proxy:
        proxy.usual = fault
        monkeypatch.setenv("HTTP_PROXY", f"http://joe:secret@127.0.0.1:{proxy.port}")
        told = await outcome("http://collector.test", request_timeout_secs=0.5)
    assert not isinstance(told, Accepted)
    assert told.detail.endswith(f"(through the proxy {proxy.url} of HTTP_PROXY)") and "secret" not in str(told)


async def test_who_is_exempt_goes_straight(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")
    with OtlpSink() as sink:
        assert isinstance(await outcome(sink.url), Accepted)  # loopback


# Certificates


@pytest.mark.parametrize("name", ["ca.crt", "ca.pem"])
async def test_a_folder_of_certificates_whatever_their_names(monkeypatch, authority, tmp_path, name):
    authority.cert_pem.write_to_path(str(tmp_path / name))
    (tmp_path / "README").write_text("no certificate")
    (tmp_path / "folder").mkdir()
    with OtlpSink(tls=server_context(authority, "127.0.0.1")) as sink:
        assert isinstance(await outcome(sink.url), Misconfigured)
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert isinstance(await outcome(sink.url), Accepted)
        async with open_otlp_metrics(SpanMetricsSettings(enabled=True, otlp_endpoint=sink.url)) as backend:
            await backend.send(b"")  # of which this sink knows nothing
    assert [request.path for request in sink.requests] == ["/v1/traces", "/v1/metrics"]


def test_both_are_trusted_and_nobody_else(authority, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    trustme.CA().cert_pem.write_to_path(str(folder / "other.crt"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = trusted({"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "SSL_CERT_DIR": str(folder)})
    assert len(context.get_ca_certs()) == 2
    assert len(trusted({"SSL_CERT_DIR": f"{folder}:"}).get_ca_certs()) == 1
    assert len(trusted({"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}).get_ca_certs()) > 50


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "key", "a/b", "other kind"])
def test_certificates_that_cannot_be_had_are_told(authority, tmp_path, variable, kind):
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello")
    authority.private_key_pem.write_to_path(str(tmp_path / "key"))
    path = tmp_path / kind
    if variable == "SSL_CERT_DIR" and kind in ("empty", "text", "key"):
        path = tmp_path / f"of {kind}"
        path.mkdir()
        shutil.copy(tmp_path / kind, path)
    if kind == "other kind" and variable != "SSL_CERT_DIR":
        path.mkdir()
    elif kind == "other kind":
        path.touch()
    if variable == "SSLKEYLOGFILE" and kind in ("missing", "empty", "text", "key"):
        trusted({variable: str(path)})  # it is made, or longer
        return
    with pytest.raises(WrongSetting) as told:
        trusted({variable: str(path)})
    assert str(told.value).startswith(f"{variable}: ")
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_without_a_certificate_is_told_although_it_loads(authority, tmp_path):
    """As one does that has nothing but a list of revoked certificates."""
    key = load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    now = datetime(2026, 1, 1)  # noqa: DTZ001  # naive is UTC here
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(now)
    revoked = builder.next_update(now + timedelta(days=3650)).sign(key, SHA256())
    path = tmp_path / "revoked.pem"
    path.write_bytes(revoked.public_bytes(Encoding.PEM))
    ssl.create_default_context(cafile=path)
    with pytest.raises(WrongSetting, match="it has no certificates"):
        trusted({"SSL_CERT_FILE": str(path)})


def test_certificates_for_redis_that_cannot_be_had_are_told_too(monkeypatch, tmp_path):
    """redis-py would read them at each connection, and say neither the file nor the variable."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    with pytest.raises(WrongSetting, match=r"^SSL_CERT_FILE: "):
        RedisEndpoint.of(Redis(url="rediss://127.0.0.1"))
    RedisEndpoint.of(Redis(url="redis://127.0.0.1"))  # has no use for them


# The whole process

CONFIG = """
kafka: {{brokers: "127.0.0.1:{kafka}", inputTopic: spans}}
observability: {{healthPort: {health}, enablePrometheus: false, jsonLogging: false}}
app: {{shutdownTimeoutSecs: 5}}
exporters: [{{name: backend, type: otlp, endpoint: "{endpoint}"}}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "tss.yaml"


def tss(config: Path, command: str, endpoint: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    kafka, health = free_ports(2)
    config.write_text(CONFIG.format(kafka=kafka, health=health, endpoint=endpoint))
    words = [sys.executable, "-m", "tss", command, "--config", str(config)]
    return subprocess.run(
        words, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("endpoint", "environ", "words"),
    [
        ("https://backend.test", {"ALL_PROXY": "socks5://joe:secret@squid"}, "ALL_PROXY: proxies of scheme 'socks5'"),
        (
            "http://backend.test",
            {"http_proxy": "http://joe:sec/ret@squid"},
            "http_proxy: the value is not the address of a proxy",
        ),
        (
            "https://backend.test",
            {"ALL_PROXY": SQUID, "NO_PROXY": "[::1],10.0.0.0/99"},
            "NO_PROXY: '10.0.0.0/99' is no name",
        ),
        ("https://backend.test", {"SSL_CERT_FILE": "/missing"}, "SSL_CERT_FILE: "),
        ("https://backend.test", {"SSL_CERT_DIR": "/missing"}, "SSL_CERT_DIR: /missing"),
    ],
)
def test_what_is_wrong_ends_the_process_with_one_line_and_2(config, command, endpoint, environ, words):
    ended = tss(config, command, endpoint, environ)
    assert ended.returncode == 2, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if words in line]
    assert all(value in line for name, value in environ.items() if name.startswith("SSL"))
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr + ended.stdout and "sec/ret" not in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    ("endpoint", "environ"),
    [
        ("https://backend.test", {"ALL_PROXY": SQUID, "NO_PROXY": "[::1],fd00::/8,10.0.0.0/8"}),
        ("https://[fd00::1]:4318", {"ALL_PROXY": "socks5://squid", "NO_PROXY": "[::1],fd00::/8"}),
        ("http://backend.test", {"SSL_CERT_FILE": "/missing"}),
        ("https://backend.test", {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "bogus"}),
        ("https://backend.test", {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}),
    ],
)
def test_what_is_right_or_concerns_others_is_no_fault(config, endpoint, environ):
    ended = tss(config, "check", endpoint, environ)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("stats", [True, False])
def test_where_statistics_go_is_looked_at_too(monkeypatch, stats):
    """By OTLP the traces go to an address of their own, here a plain one, and the statistics to Datadog's intake."""
    monkeypatch.setenv("SSL_CERT_FILE", "/missing")
    exporter = DatadogExporter(name="d", via="otlp", api_key="key", intake_url="http://127.0.0.1:1")
    settings = Settings(exporters=(exporter,), datadog=Datadog(stats=stats))
    with pytest.raises(WrongSetting, match="SSL_CERT_FILE") if stats else nullcontext():
        preflight.check(settings)


async def test_what_a_traceback_ended_before_opens_a_destination(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", SQUID)
    monkeypatch.setenv("NO_PROXY", "[::1],fd00::/8,10.0.0.0/8")
    async with exporter("http://[fd00::1]:4318"), exporter("http://backend.test"):
        pass
    assert ip_address("fd00::1") in ip_network("fd00::/8")
