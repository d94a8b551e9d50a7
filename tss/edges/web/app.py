"""What the daemon tells over HTTP: its health for people and probes, its metrics for Prometheus."""

from __future__ import annotations

import errno
import importlib
import logging
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from json import dumps
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

import attrs
import structlog
import trio
from isal import isal_zlib

import tss
from tss.core.errors import TssError
from tss.core.health import READING, Component, Health, State
from tss.core.measures import Meter
from tss.edges.logs import masked
from tss.edges.web.connections import Connection, Connections, Serve
from tss.settings import Observability

if TYPE_CHECKING:
    from hypercorn.config import Config
    from quart_trio import QuartTrio

log = structlog.get_logger()

IDLE_SECS = 5  # for a client to send the whole head of a request, after it has connected or has had its answer
SEND_BUFFER_BYTES = 128 * 1024  # in the kernel, which takes twice as much, for each connection
GZIP_LEVEL = 1  # of ISA-L: 400 MB/s
GZIP_WBITS = 31  # a window of 32 kB in a gzip member
PART_BYTES = 256 * 1024
MAX_UNSENT_BYTES = 64 * 1024 * 1024  # of answers in gzip, for all clients together
# What one client may send (law 5). Nothing here is asked with more than a short head; a body has MAX_BODY_BYTES at most.
MAX_HEAD_BYTES = 16 * 1024
MAX_STREAMS = 8  # requests at a time on one HTTP/2 connection


class CannotListen(TssError):
    """Yours to mend: the address or port that the settings name cannot be had."""


ADMIN_PATH = "/admin/force-rules"
EXPORTERS_PATH = "/admin/exporters"
MAX_BODY_BYTES = 64 * 1024  # a rule has a few hundred bytes


@attrs.frozen
class Asked:
    """What the admin pages need to know of a request."""

    method: str
    path: str
    authorization: str = ""
    if_match: str = ""
    body: bytes = b""
    remote: str = ""


class Admin(Protocol):
    """Answers what is asked under ADMIN_PATH and EXPORTERS_PATH."""

    async def answer(self, asked: Asked) -> Answer:
        """Whatever was asked."""


@attrs.frozen
class Facts:
    """Where the pages get what they tell. ``exposition`` takes an Accept header and gives a body in pieces, and its type."""

    health: Health
    scanner: str
    exposition: Callable[[str], tuple[Iterator[bytes], str]]
    meter: Meter
    numbers: Callable[[], Mapping[str, float]] = dict
    admin: Admin | None = None
    admin_at: tuple[str, int] | None = None  # address and port of its own; None: it is on the health port


@attrs.frozen
class Ports:
    """Where it listens; None is not at all."""

    health: int | None
    metrics: int | None
    admin: int | None = None  # where it has a port of its own


@attrs.frozen
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    packed: Packed | None = None  # in place of `body`

    @property
    def content(self) -> bytes | AsyncIterator[bytes]:
        """What is sent."""
        if self.packed is None:
            return self.body
        return self.packed.gzip() if "Content-Encoding" in self.headers else self.packed.plain()


@attrs.frozen
class Accepted:
    """What the client can read: its Accept header, and whether it takes gzip."""

    types: str = ""
    gzip: bool = False


ANYTHING = Accepted()
Page = Callable[[Accepted], Awaitable[Answer]]


class Packed:
    """A body of any length, held in gzip: text of metrics becomes a tenth to a twentieth of it."""

    def __init__(self) -> None:
        self._deflate = isal_zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WBITS)
        self._chunks: list[bytes] = []
        self.plain_bytes = 0
        self.gzip_bytes = 0

    def add(self, piece: bytes) -> None:
        """Add to its end."""
        self.plain_bytes += len(piece)
        self._keep(self._deflate.compress(piece))

    def end(self) -> None:
        """It is complete."""
        self._keep(self._deflate.flush())

    def _keep(self, chunk: bytes) -> None:
        self.gzip_bytes += len(chunk)
        if chunk:
            self._chunks.append(chunk)

    async def gzip(self) -> AsyncIterator[bytes]:
        """As it is held."""
        for chunk in self._chunks:
            yield chunk

    async def plain(self) -> AsyncIterator[bytes]:
        """As it was added, for a client that takes no gzip; the loop does other work between the parts."""
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


class Scrapes:
    """Writes metrics for one scrape after the other: a second one waits. The loop does other work between the pieces."""

    def __init__(self, exposition: Callable[[str], tuple[Iterator[bytes], str]]) -> None:
        self._exposition = exposition
        self._turn = trio.Lock()
        self._unsent: WeakSet[Packed] = WeakSet()  # a body is gone once it is sent, or cannot be

    async def answer(self, accepted: Accepted) -> Answer:
        """The metrics in the format the client asked for, or 503 while clients that read slowly hold too much."""
        async with self._turn:
            if sum(body.gzip_bytes for body in self._unsent) >= MAX_UNSENT_BYTES:
                full = {"error": "scrapes before this one have not been read by their clients; scrape later"}
                return attrs.evolve(_json(HTTPStatus.SERVICE_UNAVAILABLE, full), headers={"Retry-After": "10"})
            pieces, content_type = self._exposition(accepted.types)
            body = Packed()
            self._unsent.add(body)
            for piece in pieces:
                body.add(piece)
                await trio.lowlevel.checkpoint()
            body.end()
        headers = {"Vary": "Accept, Accept-Encoding"}
        if accepted.gzip:
            headers |= {"Content-Encoding": "gzip", "Content-Length": str(body.gzip_bytes)}
        else:
            headers |= {"Content-Length": str(body.plain_bytes)}
        return Answer(HTTPStatus.OK, b"", content_type, headers, packed=body)


async def run(
    settings: Observability, facts: Facts, *, task_status: trio.TaskStatus[Ports] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled. Raises CannotListen before it reports the ports."""
    pages = Pages(facts, trio.current_time())
    with ExitStack() as open_sockets:
        sites: list[tuple[str, socket.socket, Mapping[str, Page], Admin | None]] = []
        ports: dict[str, int | None] = {"health": None, "metrics": None}
        if settings.enable_health_check:
            sock = open_sockets.enter_context(
                _listen("observability.health", settings.health_addr, settings.health_port)
            )
            ports["health"] = sock.getsockname()[1]
            admin = facts.admin if facts.admin_at is None else None
            sites.append(("health", sock, pages.all(metrics=settings.enable_prometheus), admin))
        if settings.enable_prometheus:
            sock = open_sockets.enter_context(
                _listen("observability.metrics", settings.metrics_addr, settings.metrics_port)
            )
            ports["metrics"] = sock.getsockname()[1]
            sites.append(("metrics", sock, {"/metrics": pages.metrics}, None))
        if facts.admin is not None and facts.admin_at is not None:
            sock = open_sockets.enter_context(_listen("forceSampling.admin", *facts.admin_at))
            ports["admin"] = sock.getsockname()[1]
            sites.append(("admin", sock, {}, facts.admin))
        # From here on clients can connect; they wait in the backlog while Quart is imported, which takes longer than all
        # else at the start and has a thread of its own, so that meanwhile the loop can connect to Kafka.
        task_status.started(Ports(**ports))
        log.info("listening", **ports)
        if sites:
            await trio.to_thread.run_sync(importlib.import_module, "quart_trio")
        async with trio.open_nursery() as nursery:
            for name, sock, routes, admin in sites:
                connections = Connections(name, _server(routes, admin), facts.meter)
                nursery.start_soon(connections.run, sock, name=f"web: {name}")
            await trio.sleep_forever()


def _listen(name: str, addr: str, port: int) -> socket.socket:
    """A listening socket for the site of this name. Raises CannotListen."""
    six = ":" in addr
    both = addr == "::" and socket.has_dualstack_ipv6()
    try:
        sock = socket.create_server(
            (addr, port), family=socket.AF_INET6 if six else socket.AF_INET, dualstack_ipv6=both
        )
    except OSError as error:
        raise CannotListen(_why_not(name, addr, port, error)) from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # connections inherit both
    return sock


def _why_not(name: str, addr: str, port: int, error: OSError) -> str:
    where = f"{name}Port {port} on {addr}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use"
    if error.errno == errno.EACCES:
        return f"{where} is not allowed to this user"
    if error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0:  # below 0: the name resolver's
        return f"{name}Addr {addr} is not an address of this machine"
    return f"{where} cannot be listened on: {error.strerror}"


class Pages:
    """The pages, apart from how they are served."""

    def __init__(self, facts: Facts, began: float) -> None:
        self._facts = facts
        self._began = began
        self._scrapes = Scrapes(facts.exposition)  # one for both sites

    def all(self, *, metrics: bool) -> Mapping[str, Page]:
        """The pages of the health site, by path."""
        pages: dict[str, Page] = {"/health": self.health, "/health/ready": self.ready, "/health/live": self.live}
        return pages | {"/metrics": self.metrics} if metrics else pages

    async def health(self, _accepted: Accepted = ANYTHING) -> Answer:
        """Everything, for people: always 200, since it is the answer and not a verdict."""
        facts = self._facts
        return _json(
            HTTPStatus.OK,
            {
                "status": status(facts.health),
                "version": tss.__version__,
                "scanner": facts.scanner,
                "uptime_secs": round(trio.current_time() - self._began, 3),
                "components": {
                    name: {
                        "state": component.state.value,
                        "detail": masked(component.detail),
                        **_since(component),
                        **_masked(facts.health.particular(name)),
                    }
                    for name, component in sorted(facts.health.components.items())
                },
                "numbers": {
                    name: number if math.isfinite(number) else None for name, number in facts.numbers().items()
                },
            },
        )

    async def ready(self, _accepted: Accepted = ANYTHING) -> Answer:
        """Whether traffic may be counted on being processed, and why not."""
        reason = unready(self._facts.health)
        if reason:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "reason": masked(reason)})
        return _json(HTTPStatus.OK, {"ready": True})

    async def live(self, _accepted: Accepted = ANYTHING) -> Answer:
        """That it answers is the answer: the event loop runs."""
        return _json(HTTPStatus.OK, {"live": True})

    async def metrics(self, accepted: Accepted = ANYTHING) -> Answer:
        """For Prometheus."""
        return await self._scrapes.answer(accepted)


def _since(component: Component) -> Mapping[str, object]:
    """When a component came into its state; nothing where nobody knows."""
    since = component.since_secs
    return {} if since is None else {"since": datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")}


def _masked(particulars: Mapping[str, object]) -> Mapping[str, object]:
    return {name: masked(value) if isinstance(value, str) else value for name, value in particulars.items()}


def _json(status: int, document: Mapping[str, object]) -> Answer:
    return Answer(status, dumps(document, indent=2).encode() + b"\n")


def status(health: Health) -> str:
    """``stopping``, ``degraded`` (something is down, or done without), ``starting`` (not ready yet) or ``ok``."""
    if health.stopping:
        return "stopping"
    if any(component.state in (State.DOWN, State.DEGRADED) for component in health.components.values()):
        return "degraded"
    return "ok" if health.ready else "starting"


def unready(health: Health) -> str:
    """Why the daemon is not ready; empty when it is."""
    if health.ready:
        return ""
    if health.stopping:
        return "stopping"
    down = [
        f"{name} is down{_from(component)}: {component.detail}"
        for name, component in sorted(health.components.items())
        if component.state is State.DOWN
    ]
    if down:
        paused = health.components.get(READING)
        if paused is not None and paused.state is State.DEGRADED:
            down.append(f"reading is paused{_from(paused)}")
        return "; ".join(down)
    kafka = health.components.get("kafka")
    return f"starting: kafka: {kafka.detail if kafka else 'not tried yet'}"


def _from(component: Component) -> str:
    known = _since(component)
    return f" since {known['since']}" if known else ""


# -- how they are served: the only part that knows Quart and Hypercorn, and imports them when it runs


def _server(routes: Mapping[str, Page], admin: Admin | None) -> Serve:
    """What serves the pages on one connection after the other."""
    from hypercorn.events import Event, Updated  # noqa: PLC0415
    from hypercorn.trio.tcp_server import TCPServer  # noqa: PLC0415
    from hypercorn.trio.worker_context import WorkerContext  # noqa: PLC0415
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope  # noqa: PLC0415
    from hypercorn.utils import wrap_app  # noqa: PLC0415

    config, pages = _config(), _app(routes, admin)

    async def answer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "websocket":  # no page speaks it, and Quart logs two tracebacks for each that asks
            await send({"type": "websocket.close", "code": 1000, "reason": None})
        else:
            await pages(scope, receive, send)

    app = wrap_app(answer, config.wsgi_max_body_size, "asgi")
    context = WorkerContext(None)

    class Server(TCPServer):
        """Says what becomes of its connection's requests."""

        def __init__(self, connection: Connection) -> None:
            super().__init__(app, config, context, {}, connection.stream)  # type: ignore[arg-type]
            self._connection = connection

        async def protocol_send(self, event: Event) -> None:
            if isinstance(event, Updated):
                self._connection.told(busy=not event.idle)
            await super().protocol_send(event)

    async def serve(connection: Connection) -> None:
        await Server(connection).run()

    return serve


def _config() -> Config:
    from hypercorn.config import Config  # noqa: PLC0415

    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")  # its own handlers would go past our renderer
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_SECS
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.h2_max_header_list_size = MAX_HEAD_BYTES
    config.h2_max_concurrent_streams = MAX_STREAMS
    return config


def _app(routes: Mapping[str, Page], admin: Admin | None) -> QuartTrio:
    from hypercorn.typing import ASGIReceiveCallable  # noqa: PLC0415
    from quart import Request, Response, request  # noqa: PLC0415
    from quart.asgi import ASGIHTTPConnection  # noqa: PLC0415
    from quart_trio import QuartTrio  # noqa: PLC0415
    from quart_trio.asgi import TrioASGIHTTPConnection  # noqa: PLC0415
    from werkzeug.exceptions import HTTPException  # noqa: PLC0415

    class Connection(TrioASGIHTTPConnection):
        """Lets an answer finish. Quart-Trio (0.12) cancels it at Hypercorn's disconnect, which comes while Hypercorn is
        about to close the connection or to start its idle time: then neither happens, and the connection stays.
        """

        async def handle_messages(  # type: ignore[override]
            self, _nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
        ) -> None:
            await ASGIHTTPConnection.handle_messages(self, request, receive)

    app = QuartTrio("tss", static_folder=None)
    app.asgi_http_class = Connection
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False  # else //health is a redirection

    def view(page: Page) -> Callable[[], Awaitable[Response]]:
        async def show() -> Response:  # async, else it would run in a thread and look at the daemon from there
            takes_gzip = request.accept_encodings.quality("gzip") > 0
            return response(await page(Accepted(request.headers.get("Accept", ""), takes_gzip)))

        return show

    def response(answer: Answer) -> Response:
        headers = {"Cache-Control": "no-store", **answer.headers}
        return Response(answer.content, answer.status, headers, content_type=answer.content_type)

    async def administer(**_: str) -> Response:
        assert admin is not None, "the rules below are added for it"  # noqa: S101
        given = request.headers
        body: Any = await request.get_data()
        asked = Asked(
            request.method,
            request.path,
            given.get("Authorization", ""),
            given.get("If-Match", ""),
            body,
            request.remote_addr or "",
        )
        return response(await admin.answer(asked))

    async def fault(error: HTTPException) -> Response:
        body = dumps({"error": error.name, "path": request.path, "paths": sorted(routes)}) + "\n"
        headers = {name: text for name, text in error.get_headers() if name == "Allow"}
        return Response(body, error.code, headers, content_type="application/json")

    for path, page in routes.items():
        app.add_url_rule(path, path, view(page))
    if admin is not None:
        for rule in [path + rest for path in (ADMIN_PATH, EXPORTERS_PATH) for rest in ("", "/<path:rest>")]:
            app.add_url_rule(rule, "admin", administer, methods=["GET", "POST", "PUT", "DELETE"])
    app.register_error_handler(HTTPException, fault)
    return app
