"""The pages for health and metrics, for people, probes and Prometheus."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from weakref import WeakSet

import attrs
import trio

import tss
from tss.core.health import READING, Component, Health, State
from tss.core.measures import Meter
from tss.edges.logs import masked
from tss.edges.web.messages import AcceptHeaders, AdminRequest, GzipBody, HttpResponse, error_response, json_response

MAX_UNSENT_BYTES = 64 * 1024 * 1024  # of responses in gzip, for all clients together
ANYTHING = AcceptHeaders()

Page = Callable[[AcceptHeaders], Awaitable[HttpResponse]]
Admin = Callable[[AdminRequest], Awaitable[HttpResponse]]


@attrs.frozen
class Facts:
    """The sources of the pages. ``exposition`` takes an Accept header; it returns the metrics in pieces, and their content type."""

    health: Health
    scanner: str
    exposition: Callable[[str], tuple[Iterator[bytes], str]]
    meter: Meter
    numbers: Callable[[], Mapping[str, float]] = dict
    settings: Mapping[str, object] = attrs.field(factory=dict)  # in force, secrets masked
    admin: Admin | None = None  # answers requests under ADMIN_PATHS
    reads: Admin | None = None  # answers requests under API_PATH, on the health port
    admin_at: tuple[str, int] | None = None  # its own address and port; None: it is on the health port


class Scrapes:
    """Writes metrics for one scrape after the other. The event loop does other work between the pieces."""

    def __init__(self, exposition: Callable[[str], tuple[Iterator[bytes], str]]) -> None:
        self._exposition = exposition
        self._turn = trio.Lock()
        self._unsent: WeakSet[GzipBody] = WeakSet()  # a body is freed once it is sent, or its connection is closed

    async def answer(self, accepts: AcceptHeaders) -> HttpResponse:
        """The metrics in the format that the client asked for; or 503 while slow clients hold `MAX_UNSENT_BYTES`."""
        async with self._turn:
            if sum(body.gzip_bytes for body in self._unsent) >= MAX_UNSENT_BYTES:
                full = "clients have not read the answers to earlier scrapes, which wait in memory; scrape again later"
                return error_response(HTTPStatus.SERVICE_UNAVAILABLE, full, headers={"Retry-After": "10"})
            pieces, content_type = self._exposition(accepts.types)
            body = GzipBody()
            self._unsent.add(body)
            for piece in pieces:
                body.add(piece)
                await trio.lowlevel.checkpoint()
            body.end()
        headers = {"Vary": "Accept, Accept-Encoding"}
        if accepts.gzip:
            headers |= {"Content-Encoding": "gzip", "Content-Length": str(body.gzip_bytes)}
        else:
            headers |= {"Content-Length": str(body.plain_bytes)}
        return HttpResponse(HTTPStatus.OK, b"", content_type, headers, long_body=body)


class Pages:
    """The pages by path; `server` serves them."""

    def __init__(self, facts: Facts, began: float) -> None:
        self._facts = facts
        self._began = began
        self._scrapes = Scrapes(facts.exposition)  # one for both sites

    def all(self, *, metrics: bool) -> Mapping[str, Page]:
        """The pages of the health port, by path."""
        pages: dict[str, Page] = {"/health": self.health, "/health/ready": self.ready, "/health/live": self.live}
        return pages | {"/metrics": self.metrics} if metrics else pages

    async def health(self, _accepts: AcceptHeaders = ANYTHING) -> HttpResponse:
        """The whole state, for people. Always 200: probes ask `ready` and `live`."""
        facts = self._facts
        return json_response(
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
                "settings": _without_secrets(facts.settings),
            },
        )

    async def ready(self, _accepts: AcceptHeaders = ANYTHING) -> HttpResponse:
        """Whether this replica processes traffic; if not, 503 and the reason."""
        reason = unready(self._facts.health)
        if reason:
            return json_response(HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "reason": masked(reason)})
        return json_response(HTTPStatus.OK, {"ready": True})

    async def live(self, _accepts: AcceptHeaders = ANYTHING) -> HttpResponse:
        """Always 200: an answer shows that the event loop runs."""
        return json_response(HTTPStatus.OK, {"live": True})

    async def metrics(self, accepts: AcceptHeaders = ANYTHING) -> HttpResponse:
        """The metrics, for Prometheus."""
        return await self._scrapes.answer(accepts)


def _since(component: Component) -> Mapping[str, object]:
    """Since when a component is in its state; empty if that is unknown."""
    since = component.since_secs
    return {} if since is None else {"since": datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")}


def _without_secrets(value: object) -> object:
    """The value with every known secret masked, at any depth: one setting may repeat the secret of another."""
    match value:
        case str():
            return masked(value)
        case Mapping():
            return {name: _without_secrets(each) for name, each in value.items()}
        case list() | tuple():
            return [_without_secrets(each) for each in value]
    return value


def _masked(particulars: Mapping[str, object]) -> Mapping[str, object]:
    return {name: masked(value) if isinstance(value, str) else value for name, value in particulars.items()}


def status(health: Health) -> str:
    """``stopping``, ``degraded`` (a component is down or degraded), ``starting`` (not ready yet) or ``ok``."""
    if health.stopping:
        return "stopping"
    if any(component.state in (State.DOWN, State.DEGRADED) for component in health.components.values()):
        return "degraded"
    return "ok" if health.ready else "starting"


def unready(health: Health) -> str:
    """Why the daemon is not ready; empty if it is ready."""
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
