"""Dimensions and buckets of span metrics."""

import re
from itertools import pairwise

from tss.settings.kinds.kind import Kind, collect, list_of, refused
from tss.settings.kinds.numbers import WEEK_SECS, number
from tss.settings.kinds.texts import read_text
from tss.settings.kinds.units import MILLISECONDS

_DIMENSION = re.compile(r"[^\s=]+(=.*)?")
_DIMENSION_ALLOWED = "an attribute's key, or key=default"
MAX_DIMENSIONS = 16  # each one multiplies the number of series


def _read_dimension(raw: object) -> str:
    """Accepts `key`, `key=default`, and {name: ..., default: ...} as the Collector's connector has it."""
    if isinstance(raw, dict) and {"name"} <= raw.keys() <= {"name", "default"}:
        name, default = raw["name"], raw.get("default")
        raw = name if default is None or not isinstance(name, str) else f"{name}={default}"
    value = read_text(raw, _DIMENSION_ALLOWED)
    if not _DIMENSION.fullmatch(value):
        raise refused(raw, _DIMENSION_ALLOWED)
    return value


def _read_dimensions(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or len(raw) > MAX_DIMENSIONS:
        raise refused(raw, dimensions.allowed)
    found = tuple(collect((f"[{place}]", entry, _read_dimension) for place, entry in enumerate(raw)))
    taken: set[str] = set()
    for place, key in enumerate(found):
        label = re.sub(r"\W", "_", key.partition("=")[0], flags=re.ASCII)
        if label in taken or label in _OWN_LABELS or label.startswith("__"):
            raise refused(
                key,
                "keys that become different labels",
                f"its Prometheus label would be {label}, which is taken or reserved",
                f"[{place}]",
            )
        taken.add(label)
    return found


# Labels that every series has, or that Prometheus sets.
_OWN_LABELS = frozenset(
    ("service_name", "span_name", "span_kind", "status_code", "le", "otel_metric_overflow", "collector_instance_id")
)
dimensions = Kind(
    f"a list of attribute keys, each optionally with `=default`; at most {MAX_DIMENSIONS}",
    _read_dimensions,
    schema=list_of({"type": ["string", "object"]}, MAX_DIMENSIONS),
)


MAX_BOUNDS = 100  # each one is a number more in every series
_SMALLEST_BOUND_MS = 1e-6  # a nanosecond: the resolution of spans
_bound = number(_SMALLEST_BOUND_MS, 1000 * WEEK_SECS, units=MILLISECONDS)


def _read_bounds(raw: object) -> tuple[float, ...]:
    if not isinstance(raw, list) or not 0 < len(raw) <= MAX_BOUNDS:
        raise refused(raw, bounds.allowed)
    found = tuple(collect((f"[{place}]", entry, _bound.read) for place, entry in enumerate(raw)))
    for place, (one, other) in enumerate(pairwise(found)):
        if other - one < _SMALLEST_BOUND_MS:
            raise refused(raw[place + 1], f"more than the previous bound, {one:g}", at=f"[{place + 1}]")
    return found


bounds = Kind(
    f'a list of rising numbers above 0, or durations such as "500ms", at most {MAX_BOUNDS}',
    _read_bounds,
    schema=list_of(_bound.schema, MAX_BOUNDS, 1),
)
