"""A kind of value: how it is read from YAML, strictly, and what an error says about another value.

Own readers rather than cattrs. Its structuring is lenient where an operator needs it strict (int("5"), bool("false"),
True as 1), and each scalar would need a hook of its own to say found, allowed and hint.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Generic, TypeVar

from attrs import frozen

from tss.settings.errors import InvalidSetting, InvalidValue, shape, shown

T = TypeVar("T")

TEXT: Mapping[str, object] = {"type": "string"}
FILLED: Mapping[str, object] = {"type": "string", "minLength": 1}


def list_of(entry: Mapping[str, object], most: int | None = None, least: int = 0) -> dict[str, object]:
    """JSON Schema of a list with `least` to `most` entries."""
    limits = {"minItems": least} | ({} if most is None else {"maxItems": most})
    return {"type": "array", "items": entry, **limits}


@frozen
class Kind(Generic[T]):
    """How values of a key are read (`read` raises InvalidValue), and what an error says is allowed."""

    allowed: str
    read: Callable[[object], T]
    # True: a variable's text is the value. False: it is read as YAML.
    literal: bool = False
    # JSON Schema: accepts all that `read` accepts, and refuses as much as a schema can.
    schema: Mapping[str, object] = TEXT
    # How a value may be shown where some of it is secret; None if all of it may be.
    show: Callable[[object], object] | None = None


def refused(raw: object, allowed: str, hint: str = "", at: str = "") -> InvalidValue:
    """The exception for a single invalid value."""
    return InvalidValue(InvalidSetting(at, shown(raw), allowed, hint))


def collect(parts: Iterable[tuple[str, object, Callable[[object], T]]]) -> list[T]:
    """Reads every part. Raises InvalidValue with the errors of all parts, each with its place."""
    values, errors = [], []
    for at, raw, read in parts:
        try:
            values.append(read(raw))
        except InvalidValue as invalid:
            errors += [InvalidSetting(at + each.path, each.found, each.allowed, each.hint) for each in invalid.errors]
    if errors:
        raise InvalidValue(*errors)
    return values


def mapping_of(
    allowed: str, read_item: Callable[[str, object], tuple[str, str]], entry: Mapping[str, object]
) -> Kind[Mapping[str, str]]:
    """A mapping whose entries `read_item` reads; errors never show its values, which may be secrets."""

    def read(raw: object) -> dict[str, str]:
        if not isinstance(raw, dict):
            raise InvalidValue(InvalidSetting("", shape(raw), allowed))
        return dict(collect((f".{name}", value, partial(read_item, str(name))) for name, value in raw.items()))

    return Kind(allowed, read, schema={"type": "object", "additionalProperties": entry})
