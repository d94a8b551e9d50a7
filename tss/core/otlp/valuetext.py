"""An attribute's value as the text that people write in a rule or a pattern."""

from __future__ import annotations

from tss.core.conditions.formula import Found


def as_text(value: Found) -> str | None:
    """The text of a value: `true`, `500` (of 500.0, too), `0.5`. None for bytes, arrays and maps, which have no text.

    Whoever writes a rule or a pattern does not know which type a client sends, so a whole number reads the same as an
    integer and as a double. Datadog's tags have a form of their own (`formats/datadog/values.py`): there arrays, maps
    and bytes are text too, and large numbers are written as Go's JSON writes them.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return repr(value)
    return None
