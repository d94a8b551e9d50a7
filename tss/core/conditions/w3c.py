"""The members of a trace state as OpenTelemetry's Go API reads them. Source: go.opentelemetry.io/otel/trace v1.46.0,
`tracestate.go`. (pkg/sampling reads it otherwise, see `tss.core.tracestate`.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MOST_MEMBERS = 32
_REST = r"[a-z0-9_\-*/]"
_KEY = re.compile(rf"[a-z]{_REST}{{0,255}}|[a-z0-9]{_REST}{{0,240}}@[a-z]{_REST}{{0,13}}")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


def members(trace_state: str) -> Mapping[str, str] | None:
    """The values by key; None if anything in it is invalid."""
    found: dict[str, str] = {}
    for piece in trace_state.split(","):
        if not piece:
            continue
        key, equal, value = piece.partition("=")
        key, value = key.lstrip(" \t"), value.rstrip(" \t")
        if not equal or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value) or key in found:
            return None
        found[key] = value
        if len(found) > _MOST_MEMBERS:
            return None
    return found
