"""Keys that do not agree, and the simplest ways of disagreeing."""

from collections.abc import Iterator

from attrs import frozen

from tss.settings.errors import shown


@frozen
class Conflict:
    """Keys that do not agree. The error is reported at the first key; not at all if one of the keys is invalid itself."""

    keys: tuple[str, ...]
    found: str
    allowed: str
    hint: str = ""


def pair(one: str, one_value: str, other: str, other_value: str) -> Iterator[Conflict]:
    if one_value and not other_value:
        yield Conflict((other, one), "nothing", f"a value, since {one} is set")
    if other_value and not one_value:
        yield Conflict((one, other), "nothing", f"a value, since {other} is set")


def once(taken: dict[str, str], value: str, key: str) -> Iterator[Conflict]:
    if value in taken:
        yield Conflict((key, taken[value]), shown(value), f"another than {taken[value]}")
    taken.setdefault(value, key)
