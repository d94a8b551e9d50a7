"""`POST /admin/exporters/NAME/release`: what a destination has refused, and what is held for it, goes to the dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

import structlog

from tss.edges.web.admin import Guard, document, fault
from tss.edges.web.app import EXPORTERS_PATH, Answer, Asked

log = structlog.get_logger()

WHAT = "releases of exporters"


class Holding(Protocol):
    """The way to one destination, which holds what was refused."""

    @property
    def release(self) -> Callable[[], int]:
        """Give up what was refused; how many traces."""


class ReleaseApi:
    """Answers for one replica: each holds its own traces."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.exporters: Mapping[str, Holding] = {}
        """The way to each destination by name; empty until there are any."""

    async def answer(self, asked: Asked) -> Answer:
        """The answer to a request, whatever it is."""
        refusal = self._guard.refusal(asked, WHAT)
        if refusal is not None:
            return refusal
        match asked.method, asked.path.removeprefix(f"{EXPORTERS_PATH}/").rsplit("/", 1):
            case "POST", [name, "release"]:
                return self._release(name, asked)
        paths = f"POST {EXPORTERS_PATH}/NAME/release"
        return fault(HTTPStatus.NOT_FOUND, f"there is no {asked.method} {asked.path}; there is {paths}")

    def _release(self, name: str, asked: Asked) -> Answer:
        exporter = self.exporters.get(name)
        if exporter is None:
            known = ", ".join(sorted(self.exporters)) or "none yet: the daemon is starting"
            return fault(HTTPStatus.NOT_FOUND, f"there is no exporter {name!r}; there are: {known}")
        traces = exporter.release()
        log.warning("exporter released", exporter=name, remote=asked.remote, traces=traces)
        return document(HTTPStatus.OK, {"exporter": name, "released": traces})
