"""`match` of an exporter: which kept traces it takes."""

from collections.abc import Callable, Mapping
from typing import Any

from tss.settings.errors import InvalidSetting, InvalidValue, did_you_mean, nearest, shape
from tss.settings.kinds.kind import Kind, collect, list_of, refused
from tss.settings.kinds.texts import filled

_MATCH_ALLOWED = "a mapping with policies, attributes or both"


def _read_pattern(raw: object) -> str:
    """A text that a value is compared with. YAML's true, false and numbers become text as they are written."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, float):  # as an attribute's value is written: see core.routing
        return str(int(raw)) if raw.is_integer() else repr(raw)
    if isinstance(raw, int):
        return str(raw)
    return filled.read(raw)


def _read_patterns(raw: object) -> tuple[str, ...]:
    entries = raw if isinstance(raw, list) else [raw]
    if not entries:
        raise refused(raw, "a text or a list of texts")
    return tuple(collect((f"[{place}]", entry, _read_pattern) for place, entry in enumerate(entries)))


def _read_attributes(raw: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        raise InvalidValue(InvalidSetting("", shape(raw), "a mapping of attributes to texts"))
    keys = [str(key) for key in raw]
    return dict(zip(keys, collect((f".{key}", raw[key], _read_patterns) for key in raw), strict=True))


def _read_match(raw: object) -> Mapping[str, Any]:
    readers: dict[str, Callable[[object], object]] = {"policies": _read_patterns, "attributes": _read_attributes}
    if not isinstance(raw, dict):
        raise InvalidValue(InvalidSetting("", shape(raw), _MATCH_ALLOWED))
    unknown = [str(key) for key in raw if key not in readers]
    if unknown:
        hint = did_you_mean(nearest(unknown[0], readers))
        raise InvalidValue(InvalidSetting(f".{unknown[0]}", "an unknown key", ", ".join(readers), hint))
    return dict(zip(raw, collect((f".{key}", raw[key], readers[key]) for key in raw), strict=True))


_SCALAR: Mapping[str, object] = {"type": ["string", "number", "boolean"]}
_PATTERNS_SCHEMA: Mapping[str, object] = {"anyOf": [_SCALAR, list_of(_SCALAR, least=1)]}
match = Kind(
    _MATCH_ALLOWED,
    _read_match,
    schema={
        "type": "object",
        "properties": {
            "policies": _PATTERNS_SCHEMA,
            "attributes": {"type": "object", "additionalProperties": _PATTERNS_SCHEMA},
        },
        "additionalProperties": False,
    },
)
