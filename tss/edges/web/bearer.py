"""The token that a request has to have: `Authorization: Bearer <token>`."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from http import HTTPStatus

import structlog

from tss.core.throttle import LogThrottle
from tss.edges.web.messages import AdminRequest, HttpResponse, error_response

log = structlog.get_logger()


class BearerToken:
    """One token of the settings. ``setting`` is its key, for the responses."""

    def __init__(self, token: str, setting: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._setting = setting
        self._clock = clock
        self._wrong_tokens = LogThrottle()

    def __bool__(self) -> bool:
        return bool(self._token)

    def refusal(self, request: AdminRequest, what: str) -> HttpResponse | None:
        """The response to a request that does not have the token; None if it has it."""
        scheme, _, token = request.authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            text = f"the request has no token: add the header Authorization: Bearer <{self._setting}>"
            return error_response(HTTPStatus.UNAUTHORIZED, text, headers={"WWW-Authenticate": "Bearer"})
        if not _is_same(token.strip().encode(), self._token):
            if times := self._wrong_tokens.add(1, self._clock()):  # whoever guesses tokens must not fill the log
                log.warning(f"{what}: a request had a wrong token", remote=request.remote, times=times)
            return error_response(
                HTTPStatus.FORBIDDEN, f"the token is wrong: send the value of this replica's {self._setting}"
            )
        return None


def _is_same(given: bytes, wanted: bytes) -> bool:
    """Compare in a time that does not depend on the token, nor on its length."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(wanted).digest())
