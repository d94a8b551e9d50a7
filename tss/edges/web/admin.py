"""Who may ask for the admin pages, and which part of them answers."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

import attrs
import structlog

from tss.edges.web.app import EXPORTERS_PATH, Admin, Answer, Asked
from tss.settings import ForceSampling

log = structlog.get_logger()

TELL_SECS = 30.0  # between two lines about wrong tokens


class Guard:
    """Asks for the token of the settings."""

    def __init__(self, settings: ForceSampling, clock: Callable[[], float] = time.time) -> None:
        self._token = settings.admin_token.encode()
        self._clock = clock
        self._wrong_tokens = 0  # that no line has told of yet
        self._told_at = -math.inf

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
            self._tell_wrong(asked.remote, what)
            return fault(HTTPStatus.FORBIDDEN, "the token is not that of forceSampling.adminToken")
        return None

    def _tell_wrong(self, remote: str, what: str) -> None:
        """One line, and then from time to time with how often: whoever guesses tokens must not fill the log."""
        self._wrong_tokens += 1
        now = self._clock()
        if 0 <= now - self._told_at < TELL_SECS:
            return
        log.warning(f"{what}: a wrong token", remote=remote, times=self._wrong_tokens)
        self._wrong_tokens, self._told_at = 0, now


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
