"""true and false, numbers, durations, sizes, rates."""

import math

from tss.settings.kinds.kind import Kind, refused


def _read_truth(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise refused(raw, "true or false")
    return raw


truth = Kind("true or false", _read_truth, schema={"type": "boolean"})


def _within(low: float, high: float | None) -> str:
    return f"{low:,} or more" if high is None else f"{low:,} to {high:,}"


def whole(low: int, high: int | None = None) -> Kind[int]:
    allowed = f"a whole number, {_within(low, high)}"

    def read(raw: object) -> int:
        # Helm's templates print 1000000 as 1e+06. Beyond 2**53 a float no longer knows which whole number it is.
        if isinstance(raw, float) and raw.is_integer() and abs(raw) <= 2**53:
            raw = int(raw)
        if isinstance(raw, bool) or not isinstance(raw, int) or raw < low or (high is not None and raw > high):
            raise refused(raw, allowed, _unquote(raw))
        return min(raw, 2**53)  # what is meant is "no limit", and the core counts in 64 bits

    limits = {"minimum": low} | ({} if high is None else {"maximum": high})
    return Kind(allowed, read, schema={"type": "integer", **limits})


def number(low: float, high: float, above: bool = False) -> Kind[float]:
    """From `low` to `high`, fractions too; `above` leaves `low` itself out."""
    allowed = f"a number above {low:,} and up to {high:,}" if above else f"a number, {_within(low, high)}"

    def read(raw: object) -> float:
        # NaN fails every comparison, so the range must be asked for, not its contrary.
        fits = isinstance(raw, int | float) and not isinstance(raw, bool) and low <= raw <= high
        if not fits or (above and raw == low):
            raise refused(raw, allowed, _unquote(raw))
        return float(raw)  # type: ignore[arg-type]  # it fits

    lowest = "exclusiveMinimum" if above else "minimum"
    return Kind(allowed, read, schema={"type": "number", lowest: low, "maximum": high})


def _unquote(raw: object) -> str:
    try:
        finite = isinstance(raw, str) and math.isfinite(float(raw))
    except ValueError:
        return ""
    return "this is text: write the number without quotes" if finite else ""


WEEK_SECS = 604_800
# No duration here makes sense beyond a topic's usual retention, and a slip such as ms for s is caught.
secs = number(0, WEEK_SECS)
positive_secs = number(0, WEEK_SECS, above=True)
rate = number(0, 1)
port = whole(0, 65535)
