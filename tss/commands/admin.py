"""The admin pages of one replica, as `force`, `policies` and `release` ask them."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import attrs

from tss.commands.config import completes_files
from tss.settings import CONFIG_VARIABLE, SettingsError, load

DEFAULT_URL = "http://127.0.0.1:8080"
TOKEN_VARIABLE = "TSS_FORCE_SAMPLING_ADMIN_TOKEN"  # noqa: S105  # its name, not its value
ANSWER_SECS = 30
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # 1,000 rules of the largest size take less
MAX_REASON_CHARS = 200
_REDIRECTS = (301, 302, 303, 307, 308)


class Trouble(Exception):
    """Why the command failed: the lines for stderr. The exit code is FAILED."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines


def tell(lines: Iterable[str], to: TextIO) -> None:
    """Print the lines. They may quote any server, so control characters, line breaks and characters that the terminal
    cannot show are printed as escapes.
    """
    encoding = to.encoding or "utf-8"
    for line in lines:
        shown = "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in line])
        print(shown.encode(encoding, "backslashreplace").decode(encoding), file=to)


def tell_trouble(command: str, trouble: Trouble) -> None:
    """On stderr."""
    first, *more = trouble.lines
    tell([f"{command}: {first}", *more], sys.stderr)


@attrs.frozen
class Replica:
    """One replica's admin pages."""

    url: str
    token: str = attrs.field(repr=False)
    by_proxy: bool = False
    sender: str = attrs.field(default="", kw_only=True)  # who asks; nobody checks it

    def request(
        self, method: str, path: str, document: object = None, revision: int | None = None
    ) -> tuple[int, object]:
        """The status and the document of the answer. Raises Trouble with the server's own words."""
        url = f"{self.url.rstrip('/')}{path}"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if self.sender:
            headers["From"] = "".join(each if each.isascii() and each.isprintable() else "?" for each in self.sender)
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        body = None if document is None else json.dumps(document).encode()
        try:
            request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310  # whoever asks names it
            with self._opener().open(request, timeout=ANSWER_SECS) as answer:
                status, text = answer.status, answer.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            raise Trouble(*_words(error)) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)).strip()[:MAX_REASON_CHARS] or type(error).__name__
            raise Trouble(f"no answer from {self.url}: {reason}; --url names another replica") from error
        try:
            return status, json.loads(text or b"null")
        except (ValueError, RecursionError) as error:
            raise self.stranger(status, "no JSON") from error

    def stranger(self, status: int, what: str) -> Trouble:
        """The error for a server that answers and is not a tss."""
        return Trouble(
            f"{self.url} answers {status} with {what}: is it the health port, or forceSampling.adminPort, of a tss?"
        )

    def _opener(self) -> urllib.request.OpenerDirector:
        """The token goes only to the named address: redirects are not followed, and the proxies of the environment are
        used only with --proxy."""
        proxies = urllib.request.ProxyHandler(None if self.by_proxy else {})
        return urllib.request.build_opener(proxies, _NoRedirect())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error response."""

    def redirect_request(self, *_: object) -> None:
        return None


def _words(error: urllib.error.HTTPError) -> Sequence[str]:
    if error.code in _REDIRECTS:
        where = error.headers.get("Location", "")
        said = f"{error.url} sends on to {where} ({error.code}), where the token does not go: name the replica itself by --url"
        return (said,)
    try:
        document = json.loads(error.read(MAX_ANSWER_BYTES))
        fields = [f"{field}: {fault}" for field, fault in document.get("fields", {}).items()]
        lines = [*fields, *document.get("errors", [])]
        return (f"{document['error']} ({error.code})", *(f"  {line}" for line in lines))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError, http.client.HTTPException):
        return (f"{error.url} answers {error.code}: is it the health port, or forceSampling.adminPort, of a tss?",)


def given_token(variable: str, environ: Mapping[str, str]) -> str | None:
    """The token that the environment gives, in this variable or in the file that VARIABLE_FILE names; None if it gives none.
    Raises Trouble if the file cannot be read."""
    if environ.get(variable):
        return environ[variable]
    file = environ.get(f"{variable}_FILE")
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Trouble(f"{variable}_FILE: {error}") from error


def token(config: str | None, environ: Mapping[str, str]) -> str:
    """The admin token, from the environment, else from the settings, as the daemon finds it. Raises Trouble without one."""
    given = given_token(TOKEN_VARIABLE, environ)
    if given is not None:
        return given
    path = config or environ.get(CONFIG_VARIABLE)
    try:
        found = load(path, environ).force_sampling.admin_token if path else ""
    except SettingsError as error:
        said = f"no {TOKEN_VARIABLE}, and the settings cannot be read: {error}"
        raise Trouble(*said.splitlines()) from error
    if not found:
        raise Trouble(
            f"no token: set {TOKEN_VARIABLE}, or name settings that have forceSampling.adminToken by --config"
        )
    return found


def shared_options() -> argparse.ArgumentParser:
    """What every command that asks a replica takes, as a parent parser."""
    made = argparse.ArgumentParser(add_help=False)
    add_shared_options(made)
    return made


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Which replica to ask, with which token, and the form of the answer."""
    parser.add_argument(
        "--url", default=DEFAULT_URL, help=f"a replica's health address, or its admin address (default: {DEFAULT_URL})"
    )
    parser.add_argument("--proxy", action="store_true", help="use the proxy of HTTP_PROXY and the like")
    help_text = f"settings to take the token from (default: ${CONFIG_VARIABLE})"
    completes_files(parser.add_argument("--config", metavar="FILE", help=help_text))
    parser.add_argument("--json", action="store_true", help="answer in JSON")
