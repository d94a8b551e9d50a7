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
        """How to write what is probably meant by a text that is refused."""
        amount = self.amount(text)
        if amount is not None:
            return f"that is {float(amount):,.15g} {self.own}"
        found = re.fullmatch(rf"({_NUMBER})(\s*)([A-Za-z%]*)", text.strip())
        if found and not found[3]:
            example = re.sub(_NUMBER, found[1], self.example, count=1)
            return f'this is text: write the number without quotes, or with a unit ("{example}")'
        unit = self.aliases.get(found[3].lower(), "") if found else ""
        if found and unit:
            meant = f"{found[1]}{unit}"
            return f'write {float(self.amount(meant) or 0):.15g} or "{meant}"'
        return f'{self.called} is written as {float(self.amount(self.example) or 0):.15g} or "{self.example}"; the units are {", ".join(self.factors)}'


_SECS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
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

# ms before m, so that the first alternative that fits is the longest.
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
# Ki, Mi and Gi are Kubernetes' names for KiB, MiB and GiB. M or Mb alone could be either, or bits, and is refused.
BYTES = Units(
    "a size",
    "bytes",
    "64MiB",
    {"B": Fraction(1)}
    | {f"{letter}{end}": Fraction(1024**power) for power, letter in enumerate("KMG", 1) for end in ("iB", "i")}
    | {"kB": Fraction(1000), "KB": Fraction(1000), "MB": Fraction(1000**2), "GB": Fraction(1000**3)},
)
SHARE = Units("a share", "of 1", "10%", {"%": Fraction(1, 100)}, {"percent": "%", "pct": "%"})
