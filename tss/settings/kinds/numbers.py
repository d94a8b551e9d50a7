"""true and false; whole numbers and fractions, with a unit where the key has one: durations, sizes, shares."""

import math
import re
from collections.abc import Mapping

from tss.settings.kinds.kind import Kind, refused
from tss.settings.kinds.units import SECONDS, SHARE, Units


def _read_truth(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise refused(raw, "true or false")
    return raw


truth = Kind("true or false", _read_truth, schema={"type": "boolean"})


def _within(low: float, high: float | None) -> str:
    return f"{low:,} or more" if high is None else f"{low:,} to {high:,}"


def whole(low: int, high: int | None = None, units: Units | None = None) -> Kind[int]:
    """A whole number from `low` to `high`; with `units` also a text such as "64MiB" that makes a whole number."""
    allowed = f"a whole number, {_within(low, high)}{_or_text(units)}"

    def read(raw: object) -> int:
        value = _plain(raw, units)
        # Helm's templates print 1000000 as 1e+06. Beyond 2**53 a float no longer knows which whole number it is.
        if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
            raise refused(raw, allowed, _hint(raw, units))
        return min(value, 2**53)  # a larger number means "no limit", and the core counts in 64 bits

    limits = {"minimum": low} | ({} if high is None else {"maximum": high})
    return Kind(allowed, read, schema=_schema("integer", limits, units))


def number(low: float, high: float, above: bool = False, units: Units | None = None) -> Kind[float]:
    """From `low` to `high`, with fractions; `above` excludes `low`. With `units` also a text such as "30s"."""
    within = f"a number above {low:,} and up to {high:,}" if above else f"a number, {_within(low, high)}"
    allowed = f"{within}{_or_text(units)}"

    def read(raw: object) -> float:
        value = _plain(raw, units)
        # NaN fails every comparison, so test for "inside", not for "outside".
        inside = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not inside or (above and value == low):
            raise refused(raw, allowed, _hint(raw, units))
        return float(value)  # type: ignore[arg-type]  # it is inside

    lowest = "exclusiveMinimum" if above else "minimum"
    return Kind(allowed, read, schema=_schema("number", {lowest: low, "maximum": high}, units))


def _or_text(units: Units | None) -> str:
    return f', or {units.called} such as "{units.example}"' if units else ""


def _schema(sort: str, limits: Mapping[str, float], units: Units | None) -> dict[str, object]:
    # JSON Schema applies the limits to numbers only, and the pattern to texts only.
    return {"type": [sort, "string"], "pattern": units.pattern, **limits} if units else {"type": sort, **limits}


def _plain(raw: object, units: Units | None) -> object:
    """A text with a unit as the number in the key's own unit; any other value unchanged."""
    amount = units.amount(raw) if units and isinstance(raw, str) else None
    if amount is None:
        return raw
    return int(amount) if amount.denominator == 1 else float(amount)


def _hint(raw: object, units: Units | None) -> str:
    if units is SHARE and isinstance(raw, int | float) and 1 < raw <= 100:
        return f'for {raw:g} percent write {raw / 100:g} or "{raw:g}%"'
    if units is SHARE and isinstance(raw, int | float) and raw > 100:
        return "1 is all, which is 100 %"
    if not isinstance(raw, str):
        return ""
    if units is SHARE and raw.lstrip().startswith("-"):
        return "a share is not negative"
    if units:
        return units.hint(raw)
    if re.fullmatch(r"[0-9.]+ ?[A-Za-z%]+", raw):
        return "write the number in full, without a unit"
    try:
        finite = math.isfinite(float(raw))
    except ValueError:
        return ""
    return "this is text: write the number without quotes" if finite else ""


WEEK_SECS = 604_800
# A longer duration makes no sense, since topics usually keep records for a week; and the limit catches ms for s.
secs = number(0, WEEK_SECS, units=SECONDS)
positive_secs = number(0, WEEK_SECS, above=True, units=SECONDS)
rate = number(0, 1, units=SHARE)
port = whole(0, 65535)
