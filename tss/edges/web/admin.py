"""Access to the admin pages, and which of them answers a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

import attrs

from tss.edges.web.bearer import BearerToken
from tss.edges.web.messages import AdminRequest, HttpResponse, error_response
from tss.edges.web.pages import Admin
from tss.settings import ForceSampling


class Guard:
    """Lets only requests through that have the token of the settings."""

    def __init__(self, settings: ForceSampling, clock: Callable[[], float] = time.time) -> None:
        self._token = BearerToken(settings.admin_token, "forceSampling.adminToken", clock)

    def refusal(self, request: AdminRequest, what: str) -> HttpResponse | None:
        """The response to a request without a right to ``what``; None if it has that right."""
        if not self._token:
            text = f"{what} are off: set forceSampling.adminToken (TSS_FORCE_SAMPLING_ADMIN_TOKEN) and restart"
            return error_response(HTTPStatus.NOT_FOUND, text)
        return self._token.refusal(request, what)


@attrs.frozen
class AdminApi:
    """All admin pages. Each of ``pages`` answers the requests under its path."""

    pages: Mapping[str, Admin]

    async def answer(self, request: AdminRequest) -> HttpResponse:
        """The response of the page that the path names."""
        for path, page in self.pages.items():
            if request.path == path or request.path.startswith(f"{path}/"):
                return await page(request)
        return error_response(HTTPStatus.NOT_FOUND, f"there is no page {request.path}")
