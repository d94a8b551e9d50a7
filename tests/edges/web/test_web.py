"""The pages, over real sockets."""

import itertools
import json
import logging
import signal
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress

import attrs
import httpx
import pytest
import trio

import tss
from tests.core.spans import message, span, trace_id
from tss.core import measures
from tss.core.formats.spanmetrics import Exposition, Shape, SpanMetrics
from tss.core.health import Health
from tss.edges import logs
from tss.edges.metrics import PrometheusMeter
from tss.edges.web import messages, pages, server
from tss.settings import Datadog, FileExporter, Kafka, Observability, OtlpExporter, Settings, effective, secrets

HERE = "127.0.0.1"
UP, DOWN, STARTING = "up", "down", "starting"


def settings(*, health: bool = True, metrics: bool = True, health_port: int = 0, addr: str = HERE) -> Observability:
    return Observability(
        enable_health_check=health,
        enable_prometheus=metrics,
        health_addr=addr,
        health_port=health_port,
        metrics_addr=HERE,
        metrics_port=0,
    )


def health_of(components: Mapping[str, str], *, stopping: bool = False) -> Health:
    health = Health()
    health.stopping = stopping
    for name, state in components.items():
        match state:
            case "up":
                health.up(name)
            case "down":
                health.down(name, "no route")
            case _:
                health.starting(name)
    return health


class Site:
    """A running site, and what it tells of."""

    def __init__(self, numbers: Callable[[], Mapping[str, float]] = dict) -> None:
        self.health = Health()
        self.meter = PrometheusMeter()
        self.facts = pages.Facts(self.health, "reference", self.meter.exposition, self.meter, numbers)
        self.ports = server.Ports(None, None)
        self.client = httpx.AsyncClient(trust_env=False, timeout=5)

    async def get(self, path: str, **more) -> httpx.Response:
        return await answer(self.client, f"http://{HERE}:{self.ports.health}{path}", **more)


async def answer(client: httpx.AsyncClient, url: str, **more) -> httpx.Response:
    """Whoever listens answers, and the whole of it."""
    try:
        return await client.get(url, **more)
    except (httpx.TimeoutException, httpx.RemoteProtocolError) as error:
        pytest.fail(f"no whole answer from {url}: {error!r}")


@asynccontextmanager
async def serving(observability: Observability, site: Site | None = None) -> AsyncIterator[Site]:
    site = site or Site()
    async with trio.open_nursery() as nursery, site.client:
        site.ports = await nursery.start(server.run, observability, site.facts)
        yield site
        nursery.cancel_scope.cancel()


def port_of(ports: server.Ports, name: str) -> int:
    port = getattr(ports, name)
    assert isinstance(port, int)
    return port


# -- what the pages say


async def test_health_tells_everything():
    site = Site(numbers=lambda: {"open_traces": 12, "lag": float("nan")})
    site.facts = attrs.evolve(site.facts, settings={"app": {"parkAfterSecs": 60}, "exporters": [{"name": "datadog"}]})
    site.health.up("kafka")
    site.health.down("exporter datadog", "unreachable: connection refused")
    async with serving(settings(), site):
        answer = await site.get("/health")
        document = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert document.pop("uptime_secs") >= 0
    assert document == {
        "status": "degraded",
        "version": tss.__version__,
        "scanner": "reference",
        "components": {
            "exporter datadog": {"state": "down", "detail": "unreachable: connection refused"},
            "kafka": {"state": "up", "detail": ""},
        },
        "numbers": {"open_traces": 12, "lag": None},
        "settings": {"app": {"parkAfterSecs": 60}, "exporters": [{"name": "datadog"}]},
    }


async def test_health_shows_the_settings_in_force_and_masks_their_secrets(monkeypatch):
    """The setting that has the secret is masked by the settings; one that repeats it, by the page."""
    loaded = attrs.evolve(
        Settings(),
        datadog=Datadog(api_key="key-of-joe"),
        kafka=Kafka(brokers="b:1", sasl_password="pass-of-joe"),
        exporters=(
            OtlpExporter(name="otlp", endpoint="http://o:4318", headers={"X": "token-of-joe"}),
            FileExporter(name="odd", path="/var/pass-of-joe.jsonl"),
        ),
    )
    monkeypatch.setattr(logs, "_clean", logs._Clean(secrets(loaded)))
    site = Site()
    site.facts = attrs.evolve(site.facts, settings=effective(loaded))
    async with serving(settings(), site):
        answer = await site.get("/health")
    shown = answer.json()["settings"]
    assert "of-joe" not in answer.text
    assert shown["kafka"] | {"brokers": "b:1", "saslPassword": "***"} == shown["kafka"]
    assert shown["datadog"]["apiKey"] == "***"
    assert [each["name"] for each in shown["exporters"]] == ["otlp", "odd"]
    assert shown["exporters"][0]["headers"] == {"X": "***"}
    assert shown["exporters"][1]["path"] == "/var/***.jsonl"
    assert shown["app"]["rootQuietSecs"] == loaded.app.root_quiet_secs


async def test_no_page_shows_a_secret(monkeypatch):
    """A proxy may repeat what it was told, and a client name a URL with its password."""
    monkeypatch.setattr(logs, "_clean", logs._Clean(["p@ss-of-joe"]))
    site = Site()
    site.health.down("exporter otlp", "407 no such user: joe, p@ss-of-joe (p%40ss-of-joe)")
    site.health.particulars["exporter otlp"] = lambda: {"waits_for": "http://joe:other@proxy:3128", "waiting": 3}
    async with serving(settings(), site):
        health, ready = await site.get("/health"), await site.get("/health/ready")
    assert health.json()["components"]["exporter otlp"] == {
        "state": "down",
        "detail": "407 no such user: joe, *** (***)",
        "waits_for": "http://joe:***@proxy:3128",
        "waiting": 3,
    }
    assert ready.status_code == 503 and "joe, *** (***)" in ready.text


async def test_uptime_is_counted(autojump_clock):
    shown = pages.Pages(Site().facts, trio.current_time())
    await trio.sleep(90)
    assert json.loads((await shown.health()).body)["uptime_secs"] == 90


@pytest.mark.parametrize(
    ("components", "stopping", "status", "reason"),
    [
        ({}, False, "starting", "starting: kafka: not tried yet"),
        ({"kafka": STARTING, "exporter a": UP}, False, "starting", "starting: kafka: not tried yet"),
        ({"kafka": UP, "exporter a": STARTING}, False, "ok", ""),
        ({"kafka": UP, "exporter a": UP}, False, "ok", ""),
        ({"kafka": UP, "exporter a": DOWN}, False, "degraded", "exporter a is down: no route"),
        ({"kafka": DOWN, "exporter a": DOWN}, False, "degraded",
         "exporter a is down: no route; kafka is down: no route"),
        ({"kafka": UP}, True, "stopping", "stopping"),
        ({"kafka": DOWN}, True, "stopping", "stopping"),
    ],
)  # fmt: skip
def test_status_and_readiness(components, stopping, status, reason):
    health = health_of(components, stopping=stopping)
    assert pages.status(health) == status
    assert pages.unready(health) == reason


def test_there_is_a_reason_exactly_when_the_daemon_is_not_ready():
    for kafka, other, stopping in itertools.product((None, UP, DOWN, STARTING), (None, UP, DOWN, STARTING), (0, 1)):
        states = {"kafka": kafka, "exporter a": other}
        health = health_of({name: state for name, state in states.items() if state}, stopping=bool(stopping))
        assert (pages.unready(health) == "") == health.ready
        assert (pages.status(health) == "ok") == health.ready


async def test_readiness_follows_the_daemon():
    async with serving(settings()) as site:
        before = await site.get("/health/ready")
        site.health.up("kafka")
        during = await site.get("/health/ready")
        site.health.stopping = True
        after = await site.get("/health/ready")
    assert [answer.status_code for answer in (before, during, after)] == [503, 200, 503]
    assert before.json() == {"ready": False, "reason": "starting: kafka: not tried yet"}
    assert during.json() == {"ready": True}
    assert after.json() == {"ready": False, "reason": "stopping"}


async def test_alive_is_not_ready():
    site = Site()
    site.health.down("kafka", "gone")
    site.health.stopping = True
    async with serving(settings(), site):
        answer = await site.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"live": True})


async def test_metrics_are_on_both_sites_in_the_format_asked_for():
    async with serving(settings()) as site:
        site.meter.count(measures.TRACES_INGESTED, 5)
        for port in (site.ports.health, site.ports.metrics):
            plain = await site.client.get(f"http://{HERE}:{port}/metrics")
            open_metrics = await site.client.get(
                f"http://{HERE}:{port}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
            )
            assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
            assert "\ntraces_ingested_total 5.0\n" in plain.text
            assert "\ntraces_ingested_total 5.0\n" in open_metrics.text


# -- where it listens


async def test_the_metrics_site_has_metrics_only():
    async with serving(settings()) as site:
        for path in ("/health", "/health/live", "/health/ready", "/"):
            answer = await site.client.get(f"http://{HERE}:{site.ports.metrics}{path}")
            assert answer.status_code == 404


async def test_without_prometheus_there_are_no_metrics():
    async with serving(settings(metrics=False)) as site:
        assert site.ports.metrics is None
        assert (await site.get("/metrics")).status_code == 404
        assert (await site.get("/health")).status_code == 200


async def test_without_health_checks_there_are_metrics_only():
    async with serving(settings(health=False)) as site:
        assert site.ports.health is None
        answer = await site.client.get(f"http://{HERE}:{site.ports.metrics}/metrics")
        assert answer.status_code == 200


async def test_with_neither_it_only_waits_for_its_end():
    async with serving(settings(health=False, metrics=False)) as site:
        assert site.ports == server.Ports(None, None)


async def test_a_port_in_use_is_told_by_its_key():
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(server.CannotListen) as told:
            await server.run(settings(health_port=port), Site().facts)
    assert str(told.value) == f"observability.healthPort {port} on 127.0.0.1 is in use"


async def test_after_a_fault_nothing_stays_open():
    with socket.create_server((HERE, 0)) as taken, socket.create_server((HERE, 0)) as free:
        port = free.getsockname()[1]
        free.close()
        observability = Observability(
            health_addr=HERE, health_port=port, metrics_addr=HERE, metrics_port=taken.getsockname()[1]
        )
        with pytest.raises(server.CannotListen, match=r"observability\.metricsPort"):
            await server.run(observability, Site().facts)
        socket.create_server((HERE, port)).close()


@pytest.mark.parametrize("addr", ["192.0.2.1", "no.such.host.invalid"])
async def test_an_address_of_somebody_else_is_told_by_its_key(addr):
    with pytest.raises(server.CannotListen) as told:
        await server.run(settings(addr=addr), Site().facts)
    assert str(told.value) == f"observability.healthAddr {addr} is not an address of this machine"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
async def test_two_colons_are_every_address_of_either_family():
    async with serving(settings(addr="::")) as site:
        for host in (HERE, "[::1]"):
            assert (await site.client.get(f"http://{host}:{site.ports.health}/health/live")).status_code == 200


# -- how it behaves as a server


async def test_what_is_not_there_is_told_in_json():
    async with serving(settings()) as site:
        for path in ("/", "/healthz", "/health/", "/static/x", "/health/ready/now"):
            answer = await site.get(path)
            assert answer.status_code == 404
            assert answer.json()["error"] == "Not Found"
            assert "/health/ready" in answer.json()["paths"]
        wrong = await site.client.post(f"http://{HERE}:{site.ports.health}/health")
        assert (wrong.status_code, wrong.json()["error"]) == (405, "Method Not Allowed")
        assert "GET" in wrong.headers["allow"]


async def raw(site: Site, request: str) -> tuple[bytes, bytes]:
    """Head and body of the answer, read until the server closes the connection."""
    async with await trio.open_tcp_stream(HERE, port_of(site.ports, "health")) as stream:
        await stream.send_all(request.replace("\n", "\r\n").encode())
        with trio.fail_after(2):
            head, _, body = b"".join([part async for part in stream]).partition(b"\r\n\r\n")
    return head.lower(), body


@pytest.mark.parametrize("path", ["/health/live", "/metrics"])
async def test_head_is_get_without_the_body(path):
    async with serving(settings()) as site:
        head, body = await raw(site, f"HEAD {path} HTTP/1.1\nHost: x\nConnection: close\n\n")
    assert head.startswith(b"http/1.1 200")
    assert b"content-length: 0" not in head
    assert body == b""


@pytest.mark.parametrize("how", ["HTTP/1.0", "HTTP/1.1\nHost: x\nConnection: close"])
async def test_a_connection_that_is_to_be_closed_is_closed(how):
    async with serving(settings()) as site:
        head, body = await raw(site, f"GET /health/live {how}\n\n")
    assert head.startswith(b"http/1.1 200")
    assert json.loads(body) == {"live": True}


async def test_a_fault_in_a_page_is_a_500_and_the_next_request_is_served():
    def numbers() -> Mapping[str, float]:
        raise ZeroDivisionError

    logging.getLogger("tss").addHandler(silence := logging.NullHandler())  # Quart's logger has the app's name
    logging.getLogger("tss").propagate = False
    try:
        async with serving(settings(), Site(numbers)) as site:
            assert (await site.get("/health")).status_code == 500
            assert (await site.get("/health/live")).status_code == 200
    finally:
        logging.getLogger("tss").removeHandler(silence)
        logging.getLogger("tss").propagate = True


async def test_nonsense_from_a_client_does_not_end_it():
    nonsense = [
        b"\x16\x03\x01\x02\x00\x01",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /%ff?%fe HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"A" * 20000,
        b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
    ]
    async with serving(settings()) as site:
        for bytes_sent in nonsense:
            stream = await trio.open_tcp_stream(HERE, port_of(site.ports, "health"))
            async with stream:
                await stream.send_all(bytes_sent)
                with trio.move_on_after(0.02):
                    await stream.receive_some()
        assert (await site.get("/health/live")).status_code == 200


async def test_a_client_that_reads_nothing_does_not_hold_up_the_stop():
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        async with serving(settings()) as site:
            for partition in range(1000):
                site.meter.set(measures.CONSUMER_LAG, 1, "spans", str(partition))
            client.connect((HERE, port_of(site.ports, "health")))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
            await site.get("/metrics")
            await trio.sleep(0.2)
            began = trio.current_time()
        assert trio.current_time() - began < 2


async def test_open_connections_do_not_hold_up_the_stop():
    async with serving(settings()) as site:
        idle = await trio.open_tcp_stream(HERE, port_of(site.ports, "health"))
        half = await trio.open_tcp_stream(HERE, port_of(site.ports, "health"))
        await half.send_all(b"GET /health HTTP/1.1\r\nHo")
        await site.get("/health/live")  # stays open, for the next request
        began = trio.current_time()
    assert trio.current_time() - began < 0.5
    await idle.aclose()
    await half.aclose()


async def test_the_signals_are_left_alone():
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    async with serving(settings()) as site:
        await site.get("/health/live")
        assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


def test_importing_it_imports_nothing_heavy():
    heavy = "quart", "hypercorn", "flask", "werkzeug", "h2"
    code = f"import sys, tss.edges.web.server; print([each for each in {heavy} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- scrapes of many series, and clients that send too much


class Slow:
    """An exposition of many pieces, that notes how many scrapes are under way and what the loop did meanwhile."""

    def __init__(self, pieces: int = 200) -> None:
        self.piece = b"".join(b'spans{number="%d"} 1.0\n' % number for number in range(1000))
        self.text = self.piece * pieces
        self.under_way = self.most = 0

    def __call__(self, _accept: str) -> tuple[Iterator[bytes], str]:
        return self._pieces(), "text/plain"

    def _pieces(self) -> Iterator[bytes]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        for first in range(0, len(self.text), len(self.piece)):
            yield self.text[first : first + len(self.piece)]
        self.under_way -= 1


def site_of(slow: Slow) -> Site:
    site = Site()
    site.facts = pages.Facts(site.health, "reference", slow, site.meter)
    return site


async def test_gzip_is_for_those_who_take_it_and_all_get_the_same():
    slow = Slow()
    async with serving(settings(), site_of(slow)) as site:
        packed = await site.get("/metrics", headers={"Accept-Encoding": "gzip"})
        plain = await site.get("/metrics", headers={"Accept-Encoding": "identity"})
        refused = await site.get("/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(slow.text) // 10
    for answer in (plain, refused):
        assert "content-encoding" not in answer.headers
        assert int(answer.headers["content-length"]) == len(slow.text)
    assert packed.content == plain.content == refused.content == slow.text


async def test_scrapes_take_turns_and_the_loop_goes_on_between_the_pieces():
    slow = Slow()
    scrapes, ticks, ends = pages.Scrapes(slow), 0, 0

    async def scrape() -> None:
        nonlocal ends
        answer = await scrapes.answer(messages.AcceptHeaders())
        assert answer.status == 200
        ends += 1

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(scrape)
        while ends < 4:
            ticks += 1
            await trio.lowlevel.checkpoint()
    assert slow.most == 1
    assert ticks > 4 * 100, "the loop stood still during a scrape"


async def test_the_loop_goes_on_while_an_answer_is_unpacked_for_nobody():
    """HEAD sends no body, so nothing but the unpacking itself lets others have their turn."""
    packed, ticks, parts = (await pages.Scrapes(Slow()).answer(messages.AcceptHeaders())).long_body, 0, []
    assert packed is not None

    async def unpack() -> None:
        parts.extend([len(part) async for part in packed.plain()])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(unpack)
        while not parts:
            ticks += 1
            await trio.lowlevel.checkpoint()
    assert sum(parts) == len(Slow().text)
    assert ticks >= len(parts) > 10
    assert max(parts) <= messages.PART_BYTES


async def test_a_scrape_of_many_series_holds_few_bytes_and_the_loop_goes_on():
    """Over HTTP, for a client without gzip: 30 MB of text. 100,000 series are 150 MB."""
    metrics, site, ticks = SpanMetrics(Shape(max_series=20_000)), Site(), 0
    for number in range(20_000):
        metrics.add(trace_id(number), [message([span(number, number)])], True)
    site.meter.show(Exposition(metrics, "ms").pieces)
    done = trio.Event()

    async def scrape() -> None:
        async with site.client.stream("GET", f"http://{HERE}:{site.ports.metrics}/metrics", headers=PLAIN) as answer:
            assert answer.status_code == 200
            received = sum([len(part) async for part in answer.aiter_raw()])
        assert received == int(answer.headers["content-length"]) > 20_000_000
        done.set()

    async with serving(settings(), site):
        list(site.meter.exposition()[0])  # names are written once and kept
        await site.get("/health/live")
        tracemalloc.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scrape)
                while not done.is_set():
                    ticks += 1
                    await trio.lowlevel.checkpoint()
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < 6_000_000
    assert ticks > 300


PLAIN = {"Accept-Encoding": "identity"}


async def test_answers_that_nobody_reads_are_bounded(monkeypatch):
    monkeypatch.setattr(pages, "MAX_UNSENT_BYTES", 1000)
    scrapes = pages.Scrapes(Slow())
    unread = await scrapes.answer(messages.AcceptHeaders())
    refused = await scrapes.answer(messages.AcceptHeaders())
    assert (unread.status, refused.status, refused.headers.get("Retry-After")) == (200, 503, "10")
    del unread
    assert (await scrapes.answer(messages.AcceptHeaders())).status == 200


@pytest.mark.parametrize(
    "request_start",
    [b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET /", b"GET /health HTTP/1.1\r\nHost: x\r\n"],
)
async def test_a_head_without_end_is_refused(request_start):
    filler = b"X-A: b\r\n" if request_start.endswith(b"x\r\n") else b"a"
    async with serving(settings()) as site:
        stream = await trio.open_tcp_stream(HERE, port_of(site.ports, "health"))
        async with stream:
            with trio.fail_after(10):
                await stream.send_all((request_start + filler * server.MAX_HEAD_BYTES)[: 2 * server.MAX_HEAD_BYTES])
                answer = await stream.receive_some()
        assert answer.split()[1] == b"431"
        assert (await site.get("/health/live")).status_code == 200


async def test_a_body_that_is_too_long_is_not_kept():
    """Nobody reads the body of a GET, so it must not be collected for anybody."""
    chunk = b"%x\r\n%b\r\n" % (messages.MAX_BODY_BYTES, bytes(messages.MAX_BODY_BYTES))
    async with serving(settings()) as site:
        await site.get("/health/live")
        tracemalloc.start()
        try:
            async with await trio.open_tcp_stream(HERE, port_of(site.ports, "health")) as stream:
                with trio.fail_after(60), suppress(trio.BrokenResourceError):  # the server may close before it has all
                    await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                    for _ in range(300):
                        await stream.send_all(chunk)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert most < 8 * 1024 * 1024
        assert (await site.get("/health/live")).status_code == 200
