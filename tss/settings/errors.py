"""Errors in settings. Each says where it is, what was found, what is allowed, and often what to do."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping

from attrs import define, field, frozen

MASK = "***"

# An error fits on one line of a terminal, and a document of nested aliases must not grow to gigabytes here.
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


@frozen
class InvalidSetting:
    """One error. `path` is a key (`kafka.autoOffsetReset`), a variable (`TSS_KAFKA_BROKERS`) or a file. `line` is the line of
    the key in the file, or of what is around it if the key is missing; 0 if the key is not from the file."""

    path: str
    found: str
    allowed: str
    hint: str = ""
    line: int = field(default=0, eq=False)

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        line = f" (line {self.line})" if self.line else ""
        return f"{self.path}{line}: found {self.found}; allowed: {self.allowed}{hint}"


class SettingsError(Exception):
    """The settings cannot be used. Holds all errors, so that they can be corrected together."""

    def __init__(self, errors: tuple[InvalidSetting, ...], file: str | None) -> None:
        super().__init__(errors, file)
        self.errors = errors
        self.file = file  # None: only the environment was read

    def __str__(self) -> str:
        count = "1 error" if len(self.errors) == 1 else f"{len(self.errors)} errors"
        head = f"{count} in the settings of {self.file} and the environment:"
        if self.file is None:
            head = (
                f"no settings file was given (--config FILE or TSS_CONFIG); {count} in the settings of the environment:"
            )
        return "\n".join([head, *(f"  {error}" for error in self.errors)])


class InvalidValue(Exception):
    """A value does not fit its kind. The paths of its errors are relative to the key: "", "[2]" or ".some.property"."""

    def __init__(self, *errors: InvalidSetting) -> None:
        super().__init__(errors)
        self.errors = errors


def shown(raw: object) -> str:
    """A value on one line, as YAML writes it. Of a list or a mapping only the sort, since it may contain secrets."""
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
            # redis.url is not a secret as a whole, but redis://user:password@host contains one.
            return _short.repr(re.sub(r"//\S*@", f"//{MASK}@", raw))
    return _short.repr(raw)


def masked(value: object) -> object:
    """A secret as it may be shown: `***` if it has a value. Of a mapping, only the values are masked."""
    if isinstance(value, Mapping):
        return {name: masked(entry) for name, entry in value.items()}
    return MASK if value else value


def shape(raw: object) -> str:
    """Only the sort of a value: for places where even a plain text could be a misplaced secret."""
    return "text" if isinstance(raw, str) else shown(raw)


def _folded(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()


def nearest(name: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """The known name that is probably meant, or "". Case, dashes and underscores do not count."""
    folded = {_folded(candidate): candidate for candidate in known}
    close = difflib.get_close_matches(_folded(name), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else ""


def did_you_mean(name: str) -> str:
    return f"did you mean {name}?" if name else ""


@define
class Notes:
    """What one load has found so far: the errors, the invalid keys, and the keys that came from a variable."""

    errors: list[InvalidSetting] = field(factory=list)
    invalid: set[str] = field(factory=set)
    variables: dict[str, str] = field(factory=dict)
    text: str = ""  # of the file, if it is YAML

    def place(self, key: str) -> str:
        """Where the operator finds this key: the variable that set it, or its path in the file."""
        for whole, variable in self.variables.items():
            if _above(whole, key):
                return variable + key[len(whole) :]
        return key

    def add(self, key: str, found: str, allowed: str, hint: str = "") -> None:
        self.invalid.add(key)
        self.errors.append(InvalidSetting(self.place(key), found, allowed, hint))

    def valid(self, *keys: str) -> bool:
        """True if none of these keys has an error yet, so that comparing them means something."""
        return not any(_above(bad, key) or _above(key, bad) for bad in self.invalid for key in keys)


def _above(upper: str, lower: str) -> bool:
    return not upper or lower == upper or lower.startswith((f"{upper}.", f"{upper}["))
