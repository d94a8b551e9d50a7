"""The pages under /api, for whoever may read: who that is, and which page answers a request."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from tss.edges.web.bearer import BearerToken
from tss.edges.web.messages import API_PATH, AdminRequest, HttpResponse, error_response
from tss.settings import Observability
from tss.settings.sections.observability import LOCAL, OFF, OPEN

WHAT = f"the pages under {API_PATH}"

ReadPage = Callable[[AdminRequest], Awaitable[HttpResponse]]


class ReadGuard:
    """Lets only requests through that `observability.read` allows."""

    def __init__(self, settings: Observability, clock: Callable[[], float] = time.time) -> None:
        self._read = settings.read
        self._token = BearerToken(settings.read_token, "observability.readToken", clock)

    def refusal(self, request: AdminRequest) -> HttpResponse | None:
        """The response to a request that may not read; None if it may."""
        if self._read == OFF:
            return error_response(HTTPStatus.NOT_FOUND, f"{WHAT} are off: observability.read is off")
        if self._read == OPEN:
            return None
        if self._read != LOCAL:
            return self._token.refusal(request, WHAT)
        if is_local(request.remote):
            return None
        text = (
            f"{WHAT} answer only on the machine itself (observability.read: local): use kubectl port-forward, or set "
            "observability.readToken (TSS_OBSERVABILITY_READ_TOKEN) and restart"
        )
        return error_response(HTTPStatus.FORBIDDEN, text)


class ReadApi:
    """All pages for reading. ``pages`` has each by the first part of its path below /api; it answers what lies below, too."""

    def __init__(self, guard: ReadGuard, pages: Mapping[str, ReadPage]) -> None:
        self._guard = guard
        self._pages = pages

    async def answer(self, request: AdminRequest) -> HttpResponse:
        """The response of the page that the path names."""
        refusal = self._guard.refusal(request)
        if refusal is not None:
            return refusal
        if request.method not in ("GET", "HEAD"):
            text = f"{WHAT} answer GET, not {request.method}"
            return error_response(HTTPStatus.METHOD_NOT_ALLOWED, text, headers={"Allow": "GET, HEAD"})
        name = request.path.removeprefix(API_PATH).strip("/").partition("/")[0]
        page = self._pages.get(name)
        if page is None:
            known = ", ".join(f"{API_PATH}/{each}" for each in sorted(self._pages))
            return error_response(HTTPStatus.NOT_FOUND, f"there is no {request.path}; there are: {known}")
        return await page(request)


def is_local(remote: str) -> bool:
    """Whether a peer's address is one of the loopback interface."""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
