"""One line of text, one of a few words, an address."""

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import attrs

from tss.settings.errors import did_you_mean, nearest
from tss.settings.kinds.kind import FILLED, Kind, refused


def read_text(raw: object, allowed: str, at: str = "") -> str:
    if not isinstance(raw, str):
        scalar = isinstance(raw, bool | int | float)
        raise refused(raw, allowed, "put it in quotes" if scalar else "", at)
    # `echo ... | base64` leaves a line break at the end of a secret, which breaks HTTP headers much later.
    if not raw.isprintable():
        raise refused(raw, f"{allowed}, without line breaks or invisible characters", at=at)
    return raw


def text(allowed: str = "text", pattern: str = ".*") -> Kind[str]:
    """One line of text; all of it must match `pattern`."""

    def read(raw: object) -> str:
        value = read_text(raw, allowed)
        if not re.fullmatch(pattern, value):
            raise refused(raw, allowed)
        return value

    return Kind(allowed, read, literal=True)


token = text("16 or more printable ASCII characters, without spaces", r"[!-~]{16,}|")
filled = attrs.evolve(text("text, not empty", r".*\S.*"), schema=FILLED)
site = text(
    "a name such as datadoghq.eu, without https:// and api.", r"((?!api\.|app\.)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)?"
)


def choice(*names: str, aliases: Mapping[str, str] | None = None) -> Kind[str]:
    """One of a few words, in upper or lower case."""
    allowed = "one of " + ", ".join(name or '""' for name in names)
    table = {name.lower(): name for name in names} | dict(aliases or {})

    def read(raw: object) -> str:
        value = read_text(raw, allowed)
        if value.lower() not in table:
            raise refused(raw, allowed, did_you_mean(nearest(value, names)))
        return table[value.lower()]

    # A schema cannot ignore case, so it lists the usual spellings.
    words = (*names, *(aliases or {}))
    spelled = dict.fromkeys(spelling for word in words for spelling in (word, word.lower(), word.upper()))
    return Kind(allowed, read, literal=True, schema={"type": "string", "enum": [*spelled]})


def url(empty: bool = False, suffix_added: str = "") -> Kind[str]:
    """An http(s) base address, returned without a slash at the end."""
    allowed = "an address such as http://host:port" + (", or empty" if empty else "")

    def read(raw: object) -> str:
        value = read_text(raw, allowed)
        if empty and not value:
            return value
        hint = _url_hint(value)
        if hint is None:
            raise refused(raw, allowed)
        if suffix_added and value.rstrip("/").endswith(suffix_added):
            hint = f"remove {suffix_added}: the daemon adds it"
        if hint:
            raise refused(raw, allowed, hint)
        return value.rstrip("/")

    return Kind(allowed, read, literal=True)


def _url_hint(value: str) -> str | None:
    """What is wrong with a base address: "" if nothing, None if it is not an address."""
    try:
        parts = urlsplit(value)
        sound = _is_http(parts)
    except ValueError:  # a port out of range, a broken IPv6 address
        return None
    if not sound or " " in value:
        return None
    if "@" in parts.netloc:
        return "no user or password here: logs would show them"
    return "no ? or # here: this is a base address" if "?" in value or "#" in value else ""


def _is_http(parts: SplitResult) -> bool:
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
