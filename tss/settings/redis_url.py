"""The address of Redis: redis:// or rediss://, user, password, one host or several, a database."""

import re
from urllib.parse import unquote

from attrs import field, frozen

from tss.settings.errors import MASK

ALLOWED = "an address such as redis://host:6379/0 or rediss://host:6379, or empty"

_URL = re.compile(
    r"(?P<scheme>rediss?)://((?P<user>[^:@/]*)(:(?P<password>.*))?@)?(?P<hosts>[^@/]+)(/(?P<database>\d{0,5}))?"
)
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?")


@frozen
class RedisUrl:
    """A parsed address. Port 0 means that the address has none; the default depends on whether Redis or a Sentinel listens."""

    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0


def parse(text: str) -> RedisUrl:
    """Raises ValueError with a hint that contains nothing of the text, since that may have a password."""
    if "?" in text.rpartition("@")[2]:
        raise ValueError("no ? here: use the other keys of the section redis")
    found = _URL.fullmatch(text)
    if not found:
        raise ValueError("begin with redis:// or rediss://" if "://" not in text else "")
    return RedisUrl(
        tuple(_host(each) for each in found["hosts"].split(",")),
        found["scheme"] == "rediss",
        unquote(found["user"] or ""),
        unquote(found["password"] or ""),
        int(found["database"] or 0),
    )


def _host(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text.strip())
    port = int(found["port"] or 0) if found else 0
    if not found or port > 65535 or (found["port"] and not port):
        raise ValueError("write hosts as host:port, separated by commas")
    return found["name"].strip("[]"), port


def without_password(text: str) -> str:
    """The address with *** in place of the password."""
    return re.sub(r"(?<=://)([^:@/]*):.*@", rf"\1:{MASK}@", text)


def passwords(text: str) -> tuple[str, ...]:
    """The password as the address has it, and as it is sent (without %-escapes). Empty if the address has none."""
    found = _URL.fullmatch(text)
    raw = found["password"] if found else ""
    return tuple(dict.fromkeys((raw, unquote(raw)))) if raw else ()
