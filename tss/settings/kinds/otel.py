"""A Collector's `tail_sampling` section, and the feature gates of its processor."""

from collections.abc import Mapping
from typing import Any

from tss.core.collector import VERSIONS, WrongSection, read
from tss.core.collector.building import GATE_PREFIX, GATES
from tss.core.collector.section import KEYS
from tss.settings.errors import InvalidSetting, InvalidValue, did_you_mean, nearest, shape
from tss.settings.kinds.kind import TEXT, Kind, collect, list_of, refused
from tss.settings.kinds.texts import choice

_SECTION = "the body of a Collector's tail_sampling section, a mapping"
_GATES = f"a list of {', '.join(GATES)}, with or without the prefix {GATE_PREFIX}"


def _read_section(raw: object) -> Mapping[str, Any] | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise InvalidValue(InvalidSetting("", shape(raw), _SECTION))
    if raw.keys() & {"processors", "tail_sampling"}:
        hint = "copy only what stands below tail_sampling"
        raise InvalidValue(InvalidSetting("", "more than the section", _SECTION, hint))
    try:
        read(raw)
    except WrongSection as error:
        at = [f".{each.path}" if each.path else "" for each in error.wrong]
        wrong = zip(at, error.wrong, strict=True)
        raise InvalidValue(
            *[InvalidSetting(path, each.found, each.allowed, each.hint) for path, each in wrong]
        ) from None
    return raw


section = Kind(_SECTION, _read_section, schema={"type": "object", "propertyNames": {"enum": [*KEYS]}})
version = choice(*VERSIONS)


def _read_gate(raw: object) -> str:
    if not isinstance(raw, str) or raw.removeprefix(GATE_PREFIX) not in GATES:
        hint = did_you_mean(nearest(raw.removeprefix(GATE_PREFIX), GATES)) if isinstance(raw, str) else ""
        raise refused(raw, ", ".join(GATES), hint)
    return raw


def _read_gates(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise InvalidValue(InvalidSetting("", shape(raw), _GATES))
    return tuple(collect((f"[{place}]", each, _read_gate) for place, each in enumerate(raw)))


gates = Kind(_GATES, _read_gates, schema=list_of(TEXT))
