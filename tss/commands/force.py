"""`tss force`: the force rules, by the admin pages of any replica."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tss.commands import DONE, FAILED
from tss.commands.admin import Replica, Trouble, shared_options, tell, tell_trouble, token

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

Document = dict[str, Any]

DESCRIPTION = """\
Force rules: keep or drop every trace that matches, until the rule expires. All replicas follow a change at once.
The daemon needs forceSampling.adminToken and redis.url for it.
"""
EPILOG = """\
examples:
  %(prog)s add 'one customer' --keep --for 1h --match 'span:customer.id eq 4711'
  %(prog)s list
  %(prog)s extend 'one customer' --for 30m
  %(prog)s remove 'one customer'

The token comes from $TSS_FORCE_SAMPLING_ADMIN_TOKEN or from the settings. %(prog)s VERB --help says more.

exit codes: 0 done; 1 the replica refused or did not answer; 2 a wrong command line
"""


class Site(Replica):
    """One replica's pages of force rules."""

    def ask(self, method: str, path: str = "", document: object = None, revision: int | None = None) -> Any:
        """The JSON of the answer. Raises Trouble with the server's own words, or if the server is not a tss."""
        status, found = self.request(method, f"/admin/force-rules{path}", document, revision)
        if method == "DELETE":
            return found
        if method == "GET" and not path:
            rules = found.get("rules") if isinstance(found, dict) else None
            if not isinstance(rules, list) or not all(map(_is_rule, rules)):
                raise self.stranger(status, "no force rules")
        elif not _is_rule(found):
            raise self.stranger(status, "no force rule")
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


_FIELDS = frozenset({"id", "name", "action", "enabled", "expires", "priority", "revision", "matchers", "description"})


def _is_rule(document: object) -> bool:
    if not isinstance(document, dict) or not document.keys() >= _FIELDS or not isinstance(document["matchers"], list):
        return False
    return all(isinstance(each, dict) and each.keys() >= {"on", "op", "value"} for each in document["matchers"])


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ask the replica; returns the exit code."""
    try:
        site = Site(options.url, token(options.config, environ), options.proxy)
        shown = options.does(site, options)
        lines = _for_machines(shown, options.url) if options.json else _for_people(shown)
    except Trouble as trouble:
        tell_trouble("tss force", trouble)
        return FAILED
    tell(lines, sys.stdout)
    return DONE


# -- the commands


def _list(site: Site, _: argparse.Namespace) -> Any:
    found = site.ask("GET")
    if "stale" in found:
        tell([f"tss force: these are the rules of {found.get('asOf')}: {found['stale']}"], sys.stderr)
    return found["rules"]


def _show(site: Site, options: argparse.Namespace) -> Any:
    return site.find(options.rule)


def _add(site: Site, options: argparse.Namespace) -> Any:
    return site.ask("POST", "", {"name": options.name, "enabled": not options.disabled, **_given(options)})


def _update(site: Site, options: argparse.Namespace) -> Any:
    rule = site.find(options.rule)
    path, revision = f"/{rule['id']}", rule["revision"]
    gone = {"id", "created", "expires", "revision"}
    if options.match is not None or options.condition is not None:
        gone |= {"matchers", "condition"}
    kept = {name: value for name, value in rule.items() if name not in gone}
    name = {"name": options.name} if options.name is not None else {}
    return site.ask("PUT", path, {**kept, **name, **_given(options)}, revision)


def _given(options: argparse.Namespace) -> Document:
    """The fields of a rule that the options give. Given matchers replace all that the rule had."""
    found = {
        "action": options.action,
        "matchers": options.match,
        "condition": options.condition,
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
    return site.ask("POST", f"/{site.find(options.rule)['id']}/{options.verb}")


def _remove(site: Site, options: argparse.Namespace) -> Any:
    rule = site.find(options.rule)
    site.ask("DELETE", f"/{rule['id']}")
    return {"removed": rule["id"]}


# -- words to documents


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")

    def command(name: str, does: Callable[[Site, argparse.Namespace], Any], text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, parents=[shared_options()], help=text, description=text)
        made.set_defaults(does=does)
        if name not in ("list", "add"):
            made.add_argument("rule", help="its id or its name")
        return made

    command("list", _list, "Show all rules, in the order in which they are tried.")
    command("show", _show, "Show one rule.")
    add = command("add", _add, "Add a rule.")
    add.add_argument("name")
    add.add_argument("--disabled", action="store_true", help="add it switched off")
    _describe(add, needed=True)
    update = command("update", _update, "Change a rule. Fields that are not given stay as they are.")
    update.add_argument("--name")
    _describe(update, needed=False)
    extend = command("extend", _extend, "Let a rule expire later.")
    extend.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="by how much: 30m, 2h, 1d")
    command("enable", _switch, "Switch a rule on.")
    command("disable", _switch, "Switch a rule off. It still expires at its time.")
    command("remove", _remove, "Remove a rule.")


def _describe(parser: argparse.ArgumentParser, *, needed: bool) -> None:
    action = parser.add_mutually_exclusive_group(required=needed)
    action.add_argument("--keep", dest="action", action="store_const", const="keep", help="keep what matches")
    action.add_argument("--drop", dest="action", action="store_const", const="drop", help="drop what matches")
    what = parser.add_mutually_exclusive_group(required=needed)
    what.add_argument(
        "--match", action="append", type=_matcher, metavar="'WHERE[:KEY] OP VALUE'",
        help="such as 'resource:service.name eq checkout', 'span:http.status_code gte 500', 'name contains pay'; all must fit",
    )  # fmt: skip
    what.add_argument(
        "--condition", metavar="OTTL",
        help='in place of --match, a condition on a span or on the root: \'attributes["http.route"] == "/pay" and kind == 2\'',
    )  # fmt: skip
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="how long from now: 30m, 2h, 1d")
    end.add_argument("--until", metavar="TIME", help="until when, such as 2026-01-31T12:00:00Z")
    parser.add_argument("--priority", type=int, help="higher is tried first (default: 0)")
    parser.add_argument("--description")


def _duration(word: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", word, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{word!r} is not a time; write 90s, 30m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2]]


def _matcher(words: str) -> Document:
    """Refuses only a text that cannot be split; the server checks the parts."""
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
    """Numbers and booleans are read as such. A text that looks like one needs double quotes."""
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


def _for_machines(shown: Any, url: str) -> Sequence[str]:
    try:
        return json.dumps(shown, indent=2).splitlines()
    except RecursionError as error:  # the limit for writing is lower than for reading
        raise Trouble(f"{url} answers with JSON that is nested too deeply") from error


def _for_people(shown: Any) -> Sequence[str]:
    if isinstance(shown, list):
        return [line for rule in shown for line in _lines(rule)] or ["no rules"]
    if "removed" in shown:
        return [f"removed {shown['removed']}"]
    return _lines(shown)


def _lines(rule: Document) -> Sequence[str]:
    off = "" if rule["enabled"] else ", off"
    lines = [
        f"{rule['id']}  {rule['action']}  {rule['name']}  (until {rule['expires']}, priority {rule['priority']}{off})"
    ]
    lines += [f"    {rule['description']}"] if rule["description"] else []
    lines += [f"    {rule['condition']}"] if rule.get("condition") else []
    return [*lines, *(f"    {_matched(matcher)}" for matcher in rule["matchers"])]


def _matched(matcher: Document) -> str:
    where = f"{matcher['on']}:{matcher['key']}" if "key" in matcher else matcher["on"]
    value = matcher["value"]
    return f"{where} {matcher['op']} {value if isinstance(value, str) else json.dumps(value)}"
