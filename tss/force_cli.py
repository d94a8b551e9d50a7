"""`python -m tss force`: force rules from the command line, by the pages of any one replica."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tss.settings import CONFIG_VARIABLE, SettingsError, load

DONE, REFUSED, WRONG_USE = 0, 1, 2
DEFAULT_URL = "http://127.0.0.1:8080"
TOKEN_VARIABLE = "TSS_FORCE_SAMPLING_ADMIN_TOKEN"  # noqa: S105  # its name, not its value
ANSWER_SECS = 30
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # 1,000 rules of the largest size have less
_REDIRECTS = (301, 302, 303, 307, 308)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

Document = dict[str, Any]


class Trouble(Exception):
    """What to tell who asked; the exit code is REFUSED."""


@attrs.frozen
class Site:
    """One replica's pages."""

    url: str
    token: str = attrs.field(repr=False)
    by_proxy: bool = False

    def ask(self, method: str, path: str = "", document: object = None, revision: int | None = None) -> Any:
        """The answer's document. Raises Trouble with the server's own words."""
        url = f"{self.url.rstrip('/')}/admin/force-rules{path}"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        body = None if document is None else json.dumps(document).encode()
        try:
            request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310  # whoever asks names it
            with self._opener().open(request, timeout=ANSWER_SECS) as answer:
                status, text = answer.status, answer.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            raise Trouble(_words(error)) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = _one_line(str(getattr(error, "reason", error))) or type(error).__name__
            raise Trouble(f"no answer from {self.url}: {reason}; --url names another replica") from error
        return self._document(method, path, status, text)

    def _opener(self) -> urllib.request.OpenerDirector:
        """The token goes to the address that was named, and nowhere else: no redirect is followed, and no proxy of the
        environment asked unless that is wanted."""
        proxies = urllib.request.ProxyHandler(None if self.by_proxy else {})
        return urllib.request.build_opener(proxies, _NoRedirect())

    def _document(self, method: str, path: str, status: int, text: bytes) -> Any:
        """What a tss says. Raises Trouble for what is none."""
        try:
            found = json.loads(text or b"null")
        except ValueError as error:
            raise Trouble(_stranger(self.url, status, "no JSON")) from error
        if method == "DELETE":
            return found
        if method == "GET" and not path:
            rules = found.get("rules") if isinstance(found, dict) else None
            if not isinstance(rules, list) or not all(map(_is_rule, rules)):
                raise Trouble(_stranger(self.url, status, "no force rules"))
        elif not _is_rule(found):
            raise Trouble(_stranger(self.url, status, "no force rule"))
        return found

    def find(self, wanted: str) -> Document:
        """The rule of this id or name."""
        rules = self.ask("GET")["rules"]
        for name in ("id", "name"):
            for rule in rules:
                if rule[name] == wanted:
                    return dict(rule)
        known = ", ".join(f"{rule['id']} ({rule['name']})" for rule in rules) or "none"
        raise Trouble(f"there is no rule with the id or name {wanted!r}; there are: {known}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other that is no success."""

    def redirect_request(self, *_: object) -> None:
        return None


_FIELDS = frozenset({"id", "name", "action", "enabled", "expires", "priority", "revision", "matchers", "description"})


def _is_rule(document: object) -> bool:
    if not isinstance(document, dict) or not document.keys() >= _FIELDS or not isinstance(document["matchers"], list):
        return False
    return all(isinstance(each, dict) and each.keys() >= {"on", "op", "value"} for each in document["matchers"])


def _one_line(text: str) -> str:
    """What a stranger said, fit for a terminal."""
    return "".join([each if each.isprintable() else " " for each in text])[:200].strip()


def _stranger(url: str, status: int, what: str) -> str:
    return f"{url} answers {status} with {what}: is it the health port, or forceSampling.adminPort, of a tss?"


def _words(error: urllib.error.HTTPError) -> str:
    if error.code in _REDIRECTS:
        where = error.headers.get("Location", "")
        return f"{error.url} sends on to {where} ({error.code}), where the token does not go: name the replica itself by --url"
    try:
        document = json.loads(error.read(MAX_ANSWER_BYTES))
        lines = [f"{document['error']} ({error.code})"]
        lines += [f"  {field}: {fault}" for field, fault in document.get("fields", {}).items()]
    except (ValueError, KeyError, TypeError, AttributeError, OSError, http.client.HTTPException):
        return f"{error.url} answers {error.code}: is it the health port, or forceSampling.adminPort, of a tss?"
    return "\n".join(lines)


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Do what is asked; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        site = Site(options.url, _token(options.config, environ), options.proxy)
        shown = options.does(site, options)
    except Trouble as trouble:
        print(f"tss force: {trouble}", file=sys.stderr)
        return REFUSED
    if options.json:
        print(json.dumps(shown, indent=2))
    else:
        print(_for_people(shown))
    return DONE


def _token(config: str | None, environ: Mapping[str, str]) -> str:
    """From the environment, else from the settings, as the daemon would find it."""
    if environ.get(TOKEN_VARIABLE):
        return environ[TOKEN_VARIABLE]
    file = environ.get(f"{TOKEN_VARIABLE}_FILE")
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise Trouble(f"{TOKEN_VARIABLE}_FILE: {error}") from error
    path = config or environ.get(CONFIG_VARIABLE)
    try:
        found = load(path, environ).force_sampling.admin_token if path else ""
    except SettingsError as error:
        raise Trouble(f"no {TOKEN_VARIABLE}, and the settings cannot be read: {error}") from error
    if not found:
        raise Trouble(
            f"no token: set {TOKEN_VARIABLE}, or name settings that have forceSampling.adminToken by --config"
        )
    return found


# -- the commands


def _list(site: Site, _: argparse.Namespace) -> Any:
    return site.ask("GET")["rules"]


def _show(site: Site, options: argparse.Namespace) -> Any:
    return site.find(options.rule)


def _add(site: Site, options: argparse.Namespace) -> Any:
    return site.ask("POST", "", {"name": options.name, "enabled": not options.disabled, **_given(options)})


def _update(site: Site, options: argparse.Namespace) -> Any:
    rule = site.find(options.rule)
    path, revision = f"/{rule['id']}", rule["revision"]
    kept = {name: value for name, value in rule.items() if name not in ("id", "created", "expires", "revision")}
    name = {"name": options.name} if options.name is not None else {}
    return site.ask("PUT", path, {**kept, **name, **_given(options)}, revision)


def _given(options: argparse.Namespace) -> Document:
    """What was given of a rule; matchers together replace those there were."""
    found = {
        "action": options.action,
        "matchers": options.match,
        "description": options.description,
        "priority": options.priority,
        "durationSecs": options.duration,
        "expires": options.until,
    }
    return {name: value for name, value in found.items() if value is not None}


def _extend(site: Site, options: argparse.Namespace) -> Any:
    document = {} if options.duration is None else {"durationSecs": options.duration}
    return site.ask("POST", f"/{site.find(options.rule)['id']}/extend", document)


def _switch(site: Site, options: argparse.Namespace) -> Any:
    return site.ask("POST", f"/{site.find(options.rule)['id']}/{options.command}")


def _remove(site: Site, options: argparse.Namespace) -> Any:
    rule = site.find(options.rule)
    site.ask("DELETE", f"/{rule['id']}")
    return {"removed": rule["id"]}


# -- words to documents


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tss force", description="Keep or drop whatever matches, for a while.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--url", default=DEFAULT_URL, help=f"a replica's health address, or its admin address (default: {DEFAULT_URL})"
    )
    shared.add_argument("--proxy", action="store_true", help="ask by the proxy that HTTP_PROXY and its like name")
    shared.add_argument(
        "--config", metavar="FILE", help=f"settings to take the token from (default: ${CONFIG_VARIABLE})"
    )
    shared.add_argument("--json", action="store_true", help="answer in JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, does: Callable[[Site, argparse.Namespace], Any], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[shared], help=text, description=text)
        made.set_defaults(does=does)
        if name not in ("list", "add"):
            made.add_argument("rule", help="its id or its name")
        return made

    command("list", _list, "All rules, in the order in which they are tried.")
    command("show", _show, "One rule.")
    add = command("add", _add, "A new rule.")
    add.add_argument("name")
    add.add_argument("--disabled", action="store_true", help="make it, but let it do nothing yet")
    _describe(add, needed=True)
    update = command("update", _update, "Change a rule; what is not given stays.")
    update.add_argument("--name")
    _describe(update, needed=False)
    extend = command("extend", _extend, "Let a rule end later.")
    extend.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="by how much: 30m, 2h, 1d")
    command("enable", _switch, "Switch a rule on.")
    command("disable", _switch, "Switch a rule off; it ends when it would have.")
    command("remove", _remove, "Remove a rule.")
    return parser


def _describe(parser: argparse.ArgumentParser, *, needed: bool) -> None:
    action = parser.add_mutually_exclusive_group(required=needed)
    action.add_argument("--keep", dest="action", action="store_const", const="keep", help="keep what matches")
    action.add_argument("--drop", dest="action", action="store_const", const="drop", help="drop what matches")
    parser.add_argument(
        "--match", action="append", type=_matcher, required=needed, metavar="'WHERE[:KEY] OP VALUE'",
        help="such as 'resource:service.name eq checkout', 'span:http.status_code gte 500', 'name contains pay'; all must fit",
    )  # fmt: skip
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="how long from now: 30m, 2h, 1d")
    end.add_argument("--until", metavar="TIME", help="until when, such as 2026-01-31T12:00:00Z")
    parser.add_argument("--priority", type=int, help="higher is tried first (default: 0)")
    parser.add_argument("--description")


def _duration(word: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", word, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{word!r} is no time such as 90s, 30m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2]]


def _matcher(words: str) -> Document:
    """The server says what is wrong with the words; here only what cannot be taken apart is refused."""
    parts = words.split(maxsplit=2)
    if len(parts) < 2:
        raise argparse.ArgumentTypeError(f"{words!r} is not WHERE[:KEY] OP VALUE, such as 'span:http.route eq /pay'")
    where, colon, key = parts[0].partition(":")
    made: Document = {"on": where, "op": parts[1]}
    if colon:
        made["key"] = key
    if len(parts) > 2:
        made["value"] = _value(parts[1], parts[2].strip())
    return made


def _value(op: str, word: str) -> object:
    """Numbers and truths are what they look like; a text that looks like one stands in double quotes."""
    if op in ("regex", "contains", "starts_with", "ends_with"):
        return word
    try:
        found = json.loads(word)
    except ValueError:
        found = word
    if op == "in" and not isinstance(found, list):
        return [_value("eq", each.strip()) for each in word.split(",")]
    return found


# -- documents to words


def _for_people(shown: Any) -> str:
    if isinstance(shown, list):
        return "\n".join(map(_line, shown)) if shown else "no rules"
    if "removed" in shown:
        return f"removed {shown['removed']}"
    return _line(shown)


def _line(rule: Document) -> str:
    off = "" if rule["enabled"] else ", off"
    lines = [
        f"{rule['id']}  {rule['action']}  {rule['name']}  (until {rule['expires']}, priority {rule['priority']}{off})"
    ]
    lines += [f"    {rule['description']}"] if rule["description"] else []
    return "\n".join([*lines, *(f"    {_matched(matcher)}" for matcher in rule["matchers"])])


def _matched(matcher: Document) -> str:
    where = f"{matcher['on']}:{matcher['key']}" if "key" in matcher else matcher["on"]
    value = matcher["value"]
    return f"{where} {matcher['op']} {value if isinstance(value, str) else json.dumps(value)}"
