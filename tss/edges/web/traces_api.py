"""`GET /api/traces/ID`: what was decided about a trace, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus

from tss.edges.web.messages import API_PATH, AdminRequest, HttpResponse, error_response, json_response

TRACES = "traces"
MAX_SHOWN = 64  # characters of a wrong id


class TracesApi:
    """Answers for one replica, which knows only what it decided itself. ``look`` has the answer for a trace id."""

    def __init__(self, look: Callable[[bytes], Mapping[str, object]]) -> None:
        self._look = look

    async def answer(self, request: AdminRequest) -> HttpResponse:
        """The response: 200 if the trace was decided or is open, 404 if this replica does not know it."""
        given = request.path.removeprefix(f"{API_PATH}/{TRACES}").strip("/")
        trace_id = read_id(given)
        if trace_id is None:
            shown = ascii(given[:MAX_SHOWN])
            return error_response(
                HTTPStatus.BAD_REQUEST, f"{shown} is no trace id: 32 hexadecimal digits, not all of them 0"
            )
        found = self._look(trace_id)
        if found["state"] == "unknown":
            text = f"this replica does not know the trace: {found['unknownBecause']}"
            return json_response(HTTPStatus.NOT_FOUND, {"error": text, **found})
        return json_response(HTTPStatus.OK, found)


def read_id(text: str) -> bytes | None:
    """The trace id in 32 hexadecimal digits; None for any other text."""
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        return None
    found = bytes.fromhex(text)
    return found if any(found) else None
