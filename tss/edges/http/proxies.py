"""The environment's proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, also in lower case.

httpx must not read them: its NO_PROXY raises for IPv6 and ignores networks, and its errors name no variable.
``urllib.request.proxy_bypass`` compares addresses as text. The rules here are those of Go's ``httpproxy``, which the Collector
uses: a name also means its subdomains, networks match addresses only, loopback needs no proxy. No name is resolved.
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
    """A proxy, and the credentials for it."""

    variable: str  # the environment variable that names it
    scheme: str
    host: str  # an IPv6 address without brackets
    port: int
    credentials: tuple[str, str] | None = attrs.field(default=None, repr=False)

    @property
    def address(self) -> str:
        """The URL without the credentials, for the log."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@attrs.frozen
class Exemption:
    """One entry of NO_PROXY: a network (an address is a network of one), or a name."""

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
    """The proxy for requests to this URL; None: no proxy.

    Raises WrongSetting, with the variable's name, if a variable that matters for this URL cannot be read.
    """
    parts = urlsplit(url)
    return decide(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme], environ)


def decide(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """As `proxy_for`, for a URL's parts. ``host`` has no brackets. Errors in variables that do not matter are ignored."""
    found = _value(f"{scheme.upper()}_PROXY", environ) or _value("ALL_PROXY", environ)
    host = host.lower().rstrip(".")
    if found is None or _is_loopback(host):
        return None
    exempt = _value(NO_PROXY, environ)
    if exempt is not None and _is_exempt(host, port, *exempt):
        return None
    return _proxy(*found)


def secrets(environ: Mapping[str, str]) -> Iterator[str]:
    """The secrets in these variables: passwords, and users without a password, which are tokens."""
    for variable in VARIABLES:
        for name in (variable, variable.lower()):
            userinfo, at, _ = environ.get(name, "").rpartition("@")
            user, colon, password = userinfo.rpartition("//")[2].partition(":")
            if at:
                secret = password if colon else user
                yield from {secret, unquote(secret)} - {""}


def _value(variable: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable's name as the environment has it, and its value. Lower case wins, even if it is empty.

    HTTP_PROXY counts in both cases. A CGI program must not trust it, because a request's header ``Proxy`` sets it there. No
    request sets variables here, and many container images set it in upper case.
    """
    for name in (variable.lower(), variable):
        if name in environ:
            value = environ[name].strip()
            return (name, value) if value else None
    return None


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or any(each.is_loopback for each in _addresses(host))


def _is_exempt(host: str, port: int, variable: str, value: str) -> bool:
    # All entries are parsed first, so that a wrong entry is reported even if another one matches.
    exemptions = [_exemption(entry, variable) for entry in _entries(value)]
    return any(each is None or each.matches(host, port) for each in exemptions)


def _entries(value: str) -> Sequence[str]:
    """Entries between commas or white space. Paths of sockets, which some list here for Docker, do not concern HTTP."""
    return [entry for entry in re.split(r"[,\s]+", value) if entry and not entry.startswith("/")]


def _exemption(entry: str, variable: str) -> Exemption | None:
    """None for `*`: all hosts. Raises WrongSetting."""
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
    # No name ends with a number: 192.168. is half an address, and would match nothing.
    if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit() or ("*" in host and not below):
        raise WrongSetting(
            f"{variable}: {entry!r} is no name, address or network; valid entries are example.com, .example.com, 10.0.0.0/8, fd00::/8, host:8080"
        )
    return Exemption(name=name, only_below=below, port=port)


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    """The network of an entry like [::1], ::1, fd00::/8 or [fd00::]/8; else None."""
    if bare := _IN_BRACKETS.fullmatch(entry):
        entry = f"{bare[1]}{bare[2] or ''}"
    with suppress(ValueError):
        return ip_network(entry, strict=False)
    return None


def _addresses(host: str) -> Sequence[IPv4Address | IPv6Address]:
    """The host's address; two if an IPv6 address stands for an IPv4 address; none if the host is a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return ()
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (address,) if mapped is None else (address, mapped)


def _proxy(variable: str, value: str) -> Proxy:
    """Raises WrongSetting, whose text quotes only the scheme of the value: the rest may be a password."""
    parts = _parts(value if "://" in value else f"http://{value}")
    if parts is None:
        raise WrongSetting(
            f"{variable}: the value is not the address of a proxy, such as http://proxy:3128 or http://user:password@proxy:3128"
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
    """The URL's parts; None if there is more than scheme, user, password, host and port."""
    if not url.isprintable() or " " in url:  # urlsplit removes newlines silently
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
