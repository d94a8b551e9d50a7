"""Numbers with the units that people write: `30s`, `2GiB`, `10%`."""

import re
from collections.abc import Mapping
from fractions import Fraction

from attrs import field, frozen

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"


@frozen
class Units:
    """What may stand behind a number for one sort of key, and how much of the key's own unit each is."""

    called: str  # "a duration"
    own: str  # of a number alone
    example: str
    factors: Mapping[str, Fraction]
    # Spellings that are refused, with the unit that is meant by them.
    aliases: Mapping[str, str] = field(factory=dict)
    several: bool = False  # as in 1h30m

    @property
    def pattern(self) -> str:
        """A regular expression for RE2 (Helm), ECMAScript (editors) and Python: no look-around."""
        part = f"{_NUMBER} ?(?:{'|'.join(self.factors)})"
        return f"^{part}(?: ?{part})*$" if self.several else f"^{part}$"

    def amount(self, text: str) -> Fraction | None:
        """The number in the key's own unit, exactly; None if the text is not a number with a unit."""
        if not re.fullmatch(self.pattern, text):
            return None
        parts = re.findall(rf"({_NUMBER}) ?([A-Za-z%]+)", text)
        return sum((Fraction(number) * self.factors[unit] for number, unit in parts), Fraction(0))

    def hint(self, text: str) -> str:
        """How to write the value that is probably meant by a refused text."""
        amount = self.amount(text)
        if amount is not None:  # out of range, or a fraction for a whole number
            return f"that is {float(amount):,.15g} {self.own}"
        found = re.fullmatch(rf"({_NUMBER})\s*([A-Za-z%]*)", text.strip())
        number, unit = (found[1], found[2].lower()) if found else ("", "")
        if found and not unit:
            example = re.sub(_NUMBER, number, self.example, count=1)
            return f'this is text: write the number without quotes, or with a unit ("{example}")'
        if unit in self.aliases:
            return f"write {self._both(f'{number}{self.aliases[unit]}')}"
        similar = [f'"{number}{each}"' for each in self.factors if unit and each.lower().startswith(unit)]
        if similar:
            return f"did you mean {' or '.join(similar)}?"
        return f"write {self._both(self.example)}; units: {', '.join(self.factors)}"

    def _both(self, text: str) -> str:
        """Both ways to write the same value: without and with a unit."""
        return f'{float(self.amount(text) or 0):.15g} or "{text}"'


_SECS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME_ALIASES = {
    alias: unit
    for unit, aliases in {
        "ms": "msec msecs millis millisecond milliseconds",
        "s": "sec secs second seconds",
        "m": "min mins minute minutes",
        "h": "hr hrs hour hours",
        "d": "day days",
    }.items()
    for alias in aliases.split()
}

SECONDS = Units(
    "a duration",
    "seconds",
    "30s",
    {"ms": Fraction(1, 1000)} | {unit: Fraction(factor) for unit, factor in _SECS.items()},
    _TIME_ALIASES,
    several=True,
)
MILLISECONDS = Units(
    "a duration",
    "milliseconds",
    "500ms",
    {"ms": Fraction(1)} | {unit: Fraction(1000 * factor) for unit, factor in _SECS.items()},
    _TIME_ALIASES,
    several=True,
)
NANOSECONDS = Units(
    "a duration",
    "nanoseconds",
    "500ms",
    {"ns": Fraction(1), "us": Fraction(1000), "ms": Fraction(10**6)}
    | {unit: Fraction(10**9 * factor) for unit, factor in _SECS.items()},
    _TIME_ALIASES,
    several=True,
)
# Ki, Mi and Gi are Kubernetes' names for KiB, MiB and GiB. M or Mb alone could be either, or bits, and is refused.
BYTES = Units(
    "a size",
    "bytes",
    "64MiB",
    {"B": Fraction(1)}
    | {f"{letter}{end}": Fraction(1024**power) for power, letter in enumerate("KMG", 1) for end in ("iB", "i")}
    | {"kB": Fraction(1000), "KB": Fraction(1000), "MB": Fraction(1000**2), "GB": Fraction(1000**3)},
)
SHARE = Units("a share", "as a number", "10%", {"%": Fraction(1, 100)}, {"percent": "%", "pct": "%"})
