"""`POST /admin/exporters/NAME/release`: the traces that a destination refused, and that wait for it, are dead-lettered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

import structlog

from tss.edges.web.admin import Guard
from tss.edges.web.messages import EXPORTERS_PATH, AdminRequest, HttpResponse, error_response, json_response

log = structlog.get_logger()

WHAT = "releases of exporters"


class Holding(Protocol):
    """A destination's lane, which holds the traces that the destination refused."""

    @property
    def release(self) -> Callable[[], int]:
        """Give up these traces; returns how many."""


class ReleaseApi:
    """Answers for one replica, which holds only its own traces."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.exporters: Mapping[str, Holding] = {}
        """The lanes by exporter's name; empty while the daemon starts."""

    async def answer(self, request: AdminRequest) -> HttpResponse:
        """The response to any request."""
        refusal = self._guard.refusal(request, WHAT)
        if refusal is not None:
            return refusal
        match request.method, request.path.removeprefix(f"{EXPORTERS_PATH}/").rsplit("/", 1):
            case "POST", [name, "release"]:
                return self._release(name, request)
        paths = f"POST {EXPORTERS_PATH}/NAME/release"
        return error_response(HTTPStatus.NOT_FOUND, f"there is no {request.method} {request.path}; there is {paths}")

    def _release(self, name: str, request: AdminRequest) -> HttpResponse:
        exporter = self.exporters.get(name)
        if exporter is None:
            known = ", ".join(sorted(self.exporters)) or "none yet: the daemon is starting"
            return error_response(HTTPStatus.NOT_FOUND, f"there is no exporter {name!r}; there are: {known}")
        traces = exporter.release()
        log.warning("exporter released", exporter=name, remote=request.remote, traces=traces)
        return json_response(HTTPStatus.OK, {"exporter": name, "released": traces})
