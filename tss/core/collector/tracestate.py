"""The W3C `tracestate` header as the `trace_state` policy reads it."""

from __future__ import annotations

import re

# Source: go.opentelemetry.io/otel/trace v1.46.0, `tracestate.go`. One invalid member makes the whole header invalid.
_REST = r"[a-z0-9_\-*/]"
_KEY = re.compile(rf"[a-z]{_REST}{{0,255}}|[a-z0-9]{_REST}{{0,240}}@[a-z]{_REST}{{0,13}}")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MOST = 32  # members
_BLANK = " \t"


def members(header: str) -> dict[str, str] | None:
    """The members of a header by key, or None if the header is invalid. An empty header has no members."""
    found: dict[str, str] = {}
    for each in header.split(","):
        if not each:
            continue
        key, equals, value = each.partition("=")
        key, value = key.lstrip(_BLANK), value.rstrip(_BLANK)
        if not equals or _KEY.fullmatch(key) is None or _VALUE.fullmatch(value) is None or key in found:
            return None
        found[key] = value
        if len(found) > _MOST:
            return None
    return found
