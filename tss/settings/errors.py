"""What can be wrong with settings, and how it is told: where, what was found, what is allowed, and a hint."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping

from attrs import define, field, frozen

MASK = "***"

# An error is one line in a terminal; and a document of nested aliases must not unfold into gigabytes here.
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


@frozen
class InvalidSetting:
    """One thing to mend. `path` is a key (`kafka.autoOffsetReset`), a variable (`TSS_KAFKA_BROKERS`) or a file."""

    path: str
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.path}: found {self.found}; allowed: {self.allowed}{hint}"


class SettingsError(Exception):
    """The settings cannot be used. Holds every error, so that one reading is enough to mend them all."""

    def __init__(self, errors: tuple[InvalidSetting, ...], file: str | None) -> None:
        super().__init__(errors, file)
        self.errors = errors
        self.file = file  # that was read; None when none was given

    def __str__(self) -> str:
        count = "1 error" if len(self.errors) == 1 else f"{len(self.errors)} errors"
        head = f"{count} in the settings of {self.file} and the environment:"
        if self.file is None:
            head = f"no settings file was given (--config FILE or TSS_CONFIG); {count} in those of the environment:"
        return "\n".join([head, *(f"  {error}" for error in self.errors)])


class InvalidValue(Exception):
    """A value does not fit its kind. The paths of these errors are relative: "" or "[2]" or ".some.property"."""

    def __init__(self, *errors: InvalidSetting) -> None:
        super().__init__(errors)
        self.errors = errors


def shown(raw: object) -> str:
    """A value as found, in YAML's words, on one line. Containers by name only, for they may hold secrets."""
    match raw:
        case None:
            return "nothing"
        case bool():
            return "true" if raw else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            # The password in redis://user:password@host is a secret in a key that is none.
            return _short.repr(re.sub(r"//\S*@", f"//{MASK}@", raw))
    return _short.repr(raw)


def masked(value: object) -> object:
    """A secret as it may be shown: `***` if it has a value. Of a mapping, only the values are masked."""
    if isinstance(value, Mapping):
        return {name: masked(entry) for name, entry in value.items()}
    return MASK if value else value


def shape(raw: object) -> str:
    """Only what sort of value was found: for places where even a plain text could be a secret gone astray."""
    return "text" if isinstance(raw, str) else shown(raw)


def _folded(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()


def nearest(name: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """The known name that was probably meant, or "". Case, dashes and underscores do not count."""
    folded = {_folded(candidate): candidate for candidate in known}
    close = difflib.get_close_matches(_folded(name), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else ""


def did_you_mean(name: str) -> str:
    return f"did you mean {name}?" if name else ""


@define
class Notes:
    """What one reading has found so far: the errors, which keys they spoil, and which keys came from a variable."""

    errors: list[InvalidSetting] = field(factory=list)
    spoiled: set[str] = field(factory=set)
    variables: dict[str, str] = field(factory=dict)

    def place(self, key: str) -> str:
        """Where a person has to look for this key: the variable that gave it, or its path in the file."""
        for whole, variable in self.variables.items():
            if _above(whole, key):
                return variable + key[len(whole) :]
        return key

    def add(self, key: str, found: str, allowed: str, hint: str = "") -> None:
        self.spoiled.add(key)
        self.errors.append(InvalidSetting(self.place(key), found, allowed, hint))

    def sound(self, *keys: str) -> bool:
        """No error at, above or below these keys: a check between them would tell nothing but the truth."""
        return not any(_above(bad, key) or _above(key, bad) for bad in self.spoiled for key in keys)


def _above(upper: str, lower: str) -> bool:
    return not upper or lower == upper or lower.startswith((f"{upper}.", f"{upper}["))
