"""Who may ask for the admin pages, and which part of them answers."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

import attrs
import structlog

from tss.core.throttle import LogThrottle
from tss.edges.web.app import EXPORTERS_PATH, Admin, Answer, Asked
from tss.settings import ForceSampling

log = structlog.get_logger()


class Guard:
    """Asks for the token of the settings."""

    def __init__(self, settings: ForceSampling, clock: Callable[[], float] = time.time) -> None:
        self._token = settings.admin_token.encode()
        self._clock = clock
        self._wrong_tokens = LogThrottle()

    def refusal(self, asked: Asked, what: str) -> Answer | None:
        """Why whoever asks for ``what`` gets no answer, if so."""
        if not self._token:
            text = f"{what} are off: set forceSampling.adminToken (TSS_FORCE_SAMPLING_ADMIN_TOKEN) to have them"
            return fault(HTTPStatus.NOT_FOUND, text)
        scheme, _, token = asked.authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            text = "a token is needed: Authorization: Bearer <forceSampling.adminToken>"
            return fault(HTTPStatus.UNAUTHORIZED, text, headers={"WWW-Authenticate": "Bearer"})
        if not _is_same(token.strip().encode(), self._token):
            if times := self._wrong_tokens.add(1, self._clock()):  # whoever guesses tokens must not fill the log
                log.warning(f"{what}: a wrong token", remote=asked.remote, times=times)
            return fault(HTTPStatus.FORBIDDEN, "the token is not that of forceSampling.adminToken")
        return None


@attrs.frozen
class AdminApi:
    """All admin pages."""

    force: Admin
    release: Admin

    async def answer(self, asked: Asked) -> Answer:
        """By the path."""
        is_release = asked.path == EXPORTERS_PATH or asked.path.startswith(f"{EXPORTERS_PATH}/")
        return await (self.release if is_release else self.force).answer(asked)


def fault(
    status: int, error: str, *, fields: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer that says what is wrong, as all admin pages do."""
    return document(status, {"error": error, **({"fields": fields} if fields else {})}, headers)


def document(status: int, content: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(content, indent=2).encode() + b"\n", headers=headers or {})


def _is_same(given: bytes, wanted: bytes) -> bool:
    """In a time that tells nothing of the token, not even its length."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(wanted).digest())
