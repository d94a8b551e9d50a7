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
    """What an address says. A port that it leaves out is 0: which one is meant depends on who listens."""

    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0


def parse(text: str) -> RedisUrl:
    """Raises ValueError with a hint, which shows nothing of the text."""
    if "?" in text.rpartition("@")[2]:
        raise ValueError("no ? here: what is to be set has a key of its own")
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
        raise ValueError("hosts are host:port, several with commas between")
    return found["name"].strip("[]"), port


def without_password(text: str) -> str:
    """As it may be shown."""
    return re.sub(r"(?<=://)([^:@/]*):.*@", rf"\1:{MASK}@", text)


def passwords(text: str) -> tuple[str, ...]:
    """The password as it stands in the address, and as it is sent; none for one that has none."""
    found = _URL.fullmatch(text)
    raw = found["password"] if found else ""
    return tuple(dict.fromkeys((raw, unquote(raw)))) if raw else ()
