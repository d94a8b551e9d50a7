"""Keys that contradict each other, and the two most common cases."""

from collections.abc import Iterator

from attrs import frozen

from tss.settings.errors import shown


@frozen
class Conflict:
    """Keys that contradict each other. The error is reported at the first key, unless one of the keys is invalid itself."""

    keys: tuple[str, ...]
    found: str
    allowed: str
    hint: str = ""


def pair(one: str, one_value: str, other: str, other_value: str) -> Iterator[Conflict]:
    """Two keys that are only valid together."""
    if one_value and not other_value:
        yield Conflict((other, one), "nothing", f"a value, since {one} is set")
    if other_value and not one_value:
        yield Conflict((one, other), "nothing", f"a value, since {other} is set")


def once(taken: dict[str, str], value: str, key: str) -> Iterator[Conflict]:
    """A value that only one key may have. `taken` says which key has which value; this key is added."""
    if value in taken:
        yield Conflict((key, taken[value]), shown(value), f"a value other than that of {taken[value]}")
    taken.setdefault(value, key)
