"""The HTTP server: its ports, and the pages on Quart and Hypercorn, which are imported only when it runs."""

from __future__ import annotations

import errno
import importlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from json import dumps
from typing import TYPE_CHECKING, Any

import attrs
import structlog
import trio

from tss.core.errors import TssError
from tss.edges.web.connections import ClientConnection, Connections, Serve
from tss.edges.web.messages import (
    ADMIN_PATHS,
    API_PATH,
    MAX_BODY_BYTES,
    AcceptHeaders,
    AdminRequest,
    HttpResponse,
)
from tss.edges.web.pages import Admin, Facts, Page, Pages
from tss.settings import Observability

if TYPE_CHECKING:
    from hypercorn.config import Config
    from quart_trio import QuartTrio

log = structlog.get_logger()

IDLE_SECS = 5  # for a client to send the whole head of a request, after it has connected or has its last response
SEND_BUFFER_BYTES = 128 * 1024  # in the kernel, which takes twice as much, for each connection
# Limits for what one client sends (law 5). All requests here have a short head; only admin requests have a body.
MAX_HEAD_BYTES = 16 * 1024
MAX_STREAMS = 8  # requests at a time on one HTTP/2 connection


class CannotListen(TssError):
    """An operator's error: the daemon cannot listen on the address or port that the settings name."""


@attrs.frozen
class Ports:
    """The ports that it listens on; None: it does not."""

    health: int | None
    metrics: int | None
    admin: int | None = None  # None: it is on the health port, or it is off


async def run(
    settings: Observability, facts: Facts, *, task_status: trio.TaskStatus[Ports] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled. Raises CannotListen before it reports its ports."""
    pages = Pages(facts, trio.current_time())
    with ExitStack() as open_sockets:
        sites: list[tuple[str, socket.socket, Mapping[str, Page], dict[str, Admin]]] = []
        ports: dict[str, int | None] = {"health": None, "metrics": None}
        if settings.enable_health_check:
            sock = open_sockets.enter_context(
                _listen("observability.health", settings.health_addr, settings.health_port)
            )
            ports["health"] = sock.getsockname()[1]
            handlers = _administered(facts.admin if facts.admin_at is None else None)
            if facts.reads is not None:
                handlers |= _below(API_PATH, facts.reads)
            sites.append(("health", sock, pages.all(metrics=settings.enable_prometheus), handlers))
        if settings.enable_prometheus:
            sock = open_sockets.enter_context(
                _listen("observability.metrics", settings.metrics_addr, settings.metrics_port)
            )
            ports["metrics"] = sock.getsockname()[1]
            sites.append(("metrics", sock, {"/metrics": pages.metrics}, {}))
        if facts.admin is not None and facts.admin_at is not None:
            sock = open_sockets.enter_context(_listen("forceSampling.admin", *facts.admin_at))
            ports["admin"] = sock.getsockname()[1]
            sites.append(("admin", sock, {}, _administered(facts.admin)))
        # Clients can connect now, and wait in the backlog while Quart is imported. The import takes longer than the rest of
        # the start, so it runs in a thread, and the event loop connects to Kafka meanwhile.
        task_status.started(Ports(**ports))
        log.info("listening", **ports)
        if sites:
            await trio.to_thread.run_sync(importlib.import_module, "quart_trio")
        async with trio.open_nursery() as nursery:
            for name, sock, routes, handlers in sites:
                connections = Connections(name, _server(routes, handlers), facts.meter)
                nursery.start_soon(connections.run, sock, name=f"web: {name}")
            await trio.sleep_forever()


def _administered(admin: Admin | None) -> dict[str, Admin]:
    if admin is None:
        return {}
    return {rule: handler for path in ADMIN_PATHS for rule, handler in _below(path, admin).items()}


def _below(path: str, handler: Admin) -> dict[str, Admin]:
    """The rules for a path and all paths below it."""
    return {path: handler, f"{path}/<path:rest>": handler}


def _listen(name: str, addr: str, port: int) -> socket.socket:
    """A listening socket; ``name`` begins the names of its settings. Raises CannotListen."""
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
    if error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0:  # below 0: an error of the name resolver
        return f"{name}Addr {addr} is not an address of this machine"
    return f"{where} cannot be listened on: {error.strerror}"


def _server(routes: Mapping[str, Page], handlers: Mapping[str, Admin]) -> Serve:
    """A function that serves the pages on one connection. ``handlers`` answer any request to their paths."""
    from hypercorn.events import Event, Updated  # noqa: PLC0415
    from hypercorn.trio.tcp_server import TCPServer  # noqa: PLC0415
    from hypercorn.trio.worker_context import WorkerContext  # noqa: PLC0415
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope  # noqa: PLC0415
    from hypercorn.utils import wrap_app  # noqa: PLC0415

    config, pages = _config(), _app(routes, handlers)

    async def answer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "websocket":  # no page takes one, and Quart logs two tracebacks for each
            await send({"type": "websocket.close", "code": 1000, "reason": None})
        else:
            await pages(scope, receive, send)

    app = wrap_app(answer, config.wsgi_max_body_size, "asgi")
    context = WorkerContext(None)

    class Server(TCPServer):
        """Tells its connection when a request begins, and when its response is complete."""

        def __init__(self, connection: ClientConnection) -> None:
            super().__init__(app, config, context, {}, connection.stream)  # type: ignore[arg-type]
            self._connection = connection

        async def protocol_send(self, event: Event) -> None:
            if isinstance(event, Updated):
                self._connection.mark(busy=not event.idle)
            await super().protocol_send(event)

    async def serve(connection: ClientConnection) -> None:
        await Server(connection).run()

    return serve


def _config() -> Config:
    from hypercorn.config import Config  # noqa: PLC0415

    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")  # its own handlers would bypass our log format
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_SECS
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.h2_max_header_list_size = MAX_HEAD_BYTES
    config.h2_max_concurrent_streams = MAX_STREAMS
    return config


def _app(routes: Mapping[str, Page], handlers: Mapping[str, Admin]) -> QuartTrio:
    from hypercorn.typing import ASGIReceiveCallable  # noqa: PLC0415
    from quart import Request, Response, request  # noqa: PLC0415
    from quart.asgi import ASGIHTTPConnection  # noqa: PLC0415
    from quart_trio import QuartTrio  # noqa: PLC0415
    from quart_trio.asgi import TrioASGIHTTPConnection  # noqa: PLC0415
    from werkzeug.exceptions import HTTPException  # noqa: PLC0415

    class UncancelledConnection(TrioASGIHTTPConnection):
        """Lets a response finish. Quart-Trio (0.12) cancels it at Hypercorn's disconnect, before Hypercorn has closed the
        connection or started its idle time: then neither happens, and the connection stays open.
        """

        async def handle_messages(  # type: ignore[override]
            self, _nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
        ) -> None:
            await ASGIHTTPConnection.handle_messages(self, request, receive)

    app = QuartTrio("tss", static_folder=None)
    app.asgi_http_class = UncancelledConnection
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False  # else //health would be redirected

    def view(page: Page) -> Callable[[], Awaitable[Response]]:
        # Quart would run a plain function in a thread, which must not read the daemon's state.
        async def show() -> Response:
            takes_gzip = request.accept_encodings.quality("gzip") > 0
            return response(await page(AcceptHeaders(request.headers.get("Accept", ""), takes_gzip)))

        return show

    def response(answer: HttpResponse) -> Response:
        headers = {"Cache-Control": "no-store", **answer.headers}
        return Response(answer.content, answer.status, headers, content_type=answer.content_type)

    def handled(handler: Admin) -> Callable[..., Awaitable[Response]]:
        async def handle(**_: str) -> Response:
            given = request.headers
            body: Any = await request.get_data()
            asked = AdminRequest(
                request.method,
                request.path,
                given.get("Authorization", ""),
                given.get("If-Match", ""),
                body,
                request.remote_addr or "",
                request.query_string.decode("latin-1"),
                given.get("From", ""),
            )
            return response(await handler(asked))

        return handle

    async def fault(error: HTTPException) -> Response:
        body = dumps({"error": error.name, "path": request.path, "paths": sorted(routes)}) + "\n"
        headers = {name: text for name, text in error.get_headers() if name == "Allow"}
        return Response(body, error.code, headers, content_type="application/json")

    for path, page in routes.items():
        app.add_url_rule(path, path, view(page))
    for rule, handler in handlers.items():
        app.add_url_rule(rule, rule, handled(handler), methods=["GET", "POST", "PUT", "DELETE"])
    app.register_error_handler(HTTPException, fault)
    return app
