"""Access to the admin pages, and which of them answers a request."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

import attrs
import structlog

from tss.core.throttle import LogThrottle
from tss.edges.web.messages import AdminRequest, HttpResponse, error_response
from tss.edges.web.pages import Admin
from tss.settings import ForceSampling

log = structlog.get_logger()


class Guard:
    """Lets only requests through that have the token of the settings."""

    def __init__(self, settings: ForceSampling, clock: Callable[[], float] = time.time) -> None:
        self._token = settings.admin_token.encode()
        self._clock = clock
        self._wrong_tokens = LogThrottle()

    def refusal(self, request: AdminRequest, what: str) -> HttpResponse | None:
        """The response to a request without a right to ``what``; None if it has that right."""
        if not self._token:
            text = f"{what} are off: set forceSampling.adminToken (TSS_FORCE_SAMPLING_ADMIN_TOKEN) and restart"
            return error_response(HTTPStatus.NOT_FOUND, text)
        scheme, _, token = request.authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            text = "the request has no token: add the header Authorization: Bearer <forceSampling.adminToken>"
            return error_response(HTTPStatus.UNAUTHORIZED, text, headers={"WWW-Authenticate": "Bearer"})
        if not _is_same(token.strip().encode(), self._token):
            if times := self._wrong_tokens.add(1, self._clock()):  # whoever guesses tokens must not fill the log
                log.warning(f"{what}: a request had a wrong token", remote=request.remote, times=times)
            return error_response(
                HTTPStatus.FORBIDDEN, "the token is wrong: send the value of this replica's forceSampling.adminToken"
            )
        return None


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


def _is_same(given: bytes, wanted: bytes) -> bool:
    """Compare in a time that does not depend on the token, nor on its length."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(wanted).digest())
