"""Proxies as the environment names them: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, also in lower case.

httpx does not read them here: its NO_PROXY raises for IPv6, ignores networks, and an error names no variable.
``urllib.request.proxy_bypass`` compares addresses as text. The rules are those of Go's ``httpproxy``, which the Collector uses:
a name also means its subdomains, networks match addresses only, loopback needs no proxy. No name is resolved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from tss.core.errors import WrongSetting

SCHEMES = ("http", "https")
PORTS = {"http": 80, "https": 443}
NO_PROXY = "NO_PROXY"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):(\d+)")
_IN_BRACKETS = re.compile(r"\[([^\]:]*+:[^\]]*+)\](/\d++)?+")


@attrs.frozen
class Proxy:
    """Where requests go instead, and who we are there."""

    variable: str  # that names it
    scheme: str
    host: str  # an IPv6 address without brackets
    port: int
    credentials: tuple[str, str] | None = attrs.field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Without the credentials, so that it may be logged."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@attrs.frozen
class Exemption:
    """One entry of NO_PROXY: a network (an address is one of its own), or a name."""

    network: IPv4Network | IPv6Network | None = None
    name: str = ""
    only_below: bool = False  # .example.com: its subdomains, but not itself
    port: int | None = None  # None: all

    def matches(self, host: str, port: int) -> bool:
        """``host`` in lower case, without brackets."""
        if self.port not in (None, port):
            return False
        if self.network is not None:
            return any(address in self.network for address in _addresses(host))
        return host.endswith(f".{self.name}") or (host == self.name and not self.only_below)


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for what is sent to this URL; None: straight there.

    Raises WrongSetting, with the variable's name, when what decides about this URL cannot be understood.
    """
    parts = urlsplit(url)
    return decide(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme], environ)


def decide(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """The same of a URL's parts. ``host`` has no brackets. What is wrong in variables that are not needed is not told."""
    found = _value(f"{scheme.upper()}_PROXY", environ) or _value("ALL_PROXY", environ)
    host = host.lower().rstrip(".")
    if found is None or _is_loopback(host):
        return None
    exempt = _value(NO_PROXY, environ)
    if exempt is not None and _is_exempt(host, port, *exempt):
        return None
    return _proxy(*found)


def secrets(environ: Mapping[str, str]) -> Iterator[str]:
    """What the log must not show of these variables: passwords, and a user without one, which is a token."""
    for variable in VARIABLES:
        for name in (variable, variable.lower()):
            userinfo, at, _ = environ.get(name, "").rpartition("@")
            user, colon, password = userinfo.rpartition("//")[2].partition(":")
            if at:
                secret = password if colon else user
                yield from {secret, unquote(secret)} - {""}


def _value(variable: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The name as it is written there, and the value. Lower case wins, also when it is empty.

    HTTP_PROXY counts in both cases. A CGI program must not believe it, for a request's header ``Proxy`` sets it there;
    no request sets variables here, and the images of this world write it in upper case.
    """
    for name in (variable.lower(), variable):
        if name in environ:
            value = environ[name].strip()
            return (name, value) if value else None
    return None


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or any(each.is_loopback for each in _addresses(host))


def _is_exempt(host: str, port: int, variable: str, value: str) -> bool:
    # All are read before one is asked, so that a wrong one is told however the others decide.
    exemptions = [_exemption(entry, variable) for entry in _entries(value)]
    return any(each is None or each.matches(host, port) for each in exemptions)


def _entries(value: str) -> Sequence[str]:
    """Separated by commas or white space. Paths of sockets, which stand here for Docker, are no concern of HTTP's."""
    return [entry for entry in re.split(r"[,\s]+", value) if entry and not entry.startswith("/")]


def _exemption(entry: str, variable: str) -> Exemption | None:
    """None stands for all, `*`. Raises WrongSetting."""
    if entry == "*":
        return None
    network = _network(entry)
    if network is not None:
        return Exemption(network)
    port = None
    host = entry
    if with_port := _WITH_PORT.fullmatch(entry):
        host, port = with_port[1], int(with_port[2])
        network = _network(host)
        if network is not None:
            return Exemption(network, port=port)
    name = host.lower().removeprefix("*").rstrip(".")
    below = name.startswith(".")
    name = name.removeprefix(".")
    # A name never ends with a number: 192.168. is half an address, and would match nothing.
    if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit() or ("*" in host and not below):
        raise WrongSetting(
            f"{variable}: {entry!r} is no name, address or network; such as example.com, .example.com, 10.0.0.0/8, fd00::/8, host:8080"
        )
    return Exemption(name=name, only_below=below, port=port)


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    """[::1], ::1, fd00::/8, [fd00::]/8; None for what is none of them."""
    if bare := _IN_BRACKETS.fullmatch(entry):
        entry = f"{bare[1]}{bare[2] or ''}"
    with suppress(ValueError):
        return ip_network(entry, strict=False)
    return None


def _addresses(host: str) -> Sequence[IPv4Address | IPv6Address]:
    """None of a name; two where an IPv6 address stands for an IPv4 address."""
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (address,) if mapped is None else (address, mapped)


def _proxy(variable: str, value: str) -> Proxy:
    """Raises WrongSetting, whose words have nothing of the value but its scheme: the rest may be a password."""
    parts = _parts(value if "://" in value else f"http://{value}")
    if parts is None:
        raise WrongSetting(
            f"{variable}: this is no address of a proxy, such as http://proxy:3128 or http://user:password@proxy:3128"
            " (encode special characters of user and password: @ is %40, / is %2F)"
        )
    if parts.scheme not in SCHEMES:
        raise WrongSetting(
            f"{variable}: proxies of scheme {parts.scheme!r} are not supported; name one of http:// or https://,"
            f" or list the destination in {NO_PROXY}"
        )
    credentials = None
    if parts.username or parts.password:
        credentials = unquote(parts.username or ""), unquote(parts.password or "")
    return Proxy(variable, parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme], credentials)


def _parts(url: str) -> SplitResult | None:
    """None unless it is scheme, user, password, host and port, and nothing else."""
    if not url.isprintable() or " " in url:  # urlsplit removes line ends without a word
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    known = bool(_addresses(host)) if ":" in host else host.isascii() and bool(_NAME.fullmatch(host.rstrip(".")))
    whole = known and port != 0 and parts.path in ("", "/") and not parts.query and not parts.fragment
    return parts if whole and "%" not in host else None
