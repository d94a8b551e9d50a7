"""`tss policies`: the policies of all replicas, by the admin pages of any replica."""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tss.commands import DONE, FAILED
from tss.commands.admin import Replica, Trouble, shared_options, tell, tell_trouble, token
from tss.commands.config import completes_files
from tss.settings.document import dump, parse
from tss.settings.errors import InvalidValue

Document = dict[str, Any]

DESCRIPTION = """\
Show the policies in force, change them while the daemon runs, and roll a change back. A change is checked as a whole, and
all replicas follow it. The daemon needs forceSampling.adminToken; changes also need redis.url.
"""
EPILOG = """\
examples:
  %(prog)s show > policies.yaml
  %(prog)s diff policies.yaml
  %(prog)s apply policies.yaml
  %(prog)s history
  %(prog)s rollback

FILE has the content of the settings' section `sampling`, or is a settings file, of which only that section counts.
The token comes from $TSS_FORCE_SAMPLING_ADMIN_TOKEN or from the settings. %(prog)s VERB --help says more.

exit codes: 0 done; 1 the replica refused or did not answer; 2 a wrong command line
"""
_CHANGE_KEYS = frozenset({"revision", "fingerprint", "at", "source", "who"})


class Site(Replica):
    """One replica's pages of policies."""

    def ask(self, method: str, path: str = "", document: object = None, revision: int | None = None) -> Document:
        """The JSON object of the answer. Raises Trouble with the server's own words, or if the server is not a tss."""
        status, found = self.request(method, f"/admin/policies{path}", document, revision)
        if not isinstance(found, dict):
            raise self.stranger(status, "no policies")
        return found

    def shown(self, path: str = "") -> Document:
        """The policies in force, or those of one revision."""
        return self._with(self.ask("GET", path), {"fingerprint", "revision", "policies"})

    def changed(self, method: str, path: str, document: object, revision: int | None) -> Document:
        """The answer to a change."""
        return self._with(self.ask(method, path, document, revision), _CHANGE_KEYS)

    def compared(self, draft: object) -> Document:
        """The differences between a draft and the policies in force."""
        return self._with(self.ask("POST", "/diff", draft), {"changes", "revision"})

    def _with(self, found: Document, keys: frozenset[str] | set[str]) -> Document:
        if not found.keys() >= keys:
            raise self.stranger(200, "no policies")
        return found


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ask the replica; returns the exit code."""
    try:
        site = Site(options.url, token(options.config, environ), options.proxy, sender=options.sender or _user())
        found, lines = options.does(site, options)
        tell(json.dumps(found, indent=2).splitlines() if options.json else lines, sys.stdout)
    except Trouble as trouble:
        tell_trouble("tss policies", trouble)
        return FAILED
    return DONE


def _user() -> str:
    """Who runs the command, for the history. Nobody checks it."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may know no user of this number
        name = "unknown"
    return f"{name}@{socket.gethostname()}"


Answer = tuple[Document, Sequence[str]]
"""The answer for machines, and for people."""


def _show(site: Site, options: argparse.Namespace) -> Answer:
    found = site.shown(f"/history/{options.revision}" if options.revision else "")
    head = [f"# {_of(found)}" if found.keys() >= _CHANGE_KEYS else f"# fingerprint {found['fingerprint']}"]
    file = found.get("file")
    if isinstance(file, dict) and file.get("inForce") is False:
        head.append("# the settings file has other, older policies: see tss policies diff")
    return found, [*head, *dump(found["policies"]).splitlines()]


def _diff(site: Site, options: argparse.Namespace) -> Answer:
    if options.file is None:
        found = site.ask("GET", "?diff")
        names = ("the settings file", "the policies in force")
    else:
        found = site.compared(_section(options.file))
        names = ("the policies in force", options.file)
    changes = [str(each) for each in found.get("changes", [])]
    if not changes:
        return found, [f"no difference between {names[0]} and {names[1]}"]
    return found, [f"from {names[0]} to {names[1]}:", *(f"  {each}" for each in changes)]


def _apply(site: Site, options: argparse.Namespace) -> Answer:
    section = _section(options.file)
    seen = site.compared(section)
    revision = seen["revision"] if options.revision is None else options.revision
    made = site.changed("PUT", "", section, revision)
    if seen.get("same") is True:
        return made, [f"these policies are in force already: {_of(made)}"]
    return made, [f"in force: {_of(made)}", *(f"  {each}" for each in seen["changes"])]


def _history(site: Site, _options: argparse.Namespace) -> Answer:
    found = site.ask("GET", "/history")
    changes = found.get("changes")
    if not isinstance(changes, list) or not all(
        isinstance(each, dict) and each.keys() >= _CHANGE_KEYS for each in changes
    ):
        raise site.stranger(200, "no history")
    return found, [_of(each) for each in changes] or ["no changes are known"]


def _rollback(site: Site, options: argparse.Namespace) -> Answer:
    before = site.shown()
    wanted = {} if options.revision is None else {"revision": options.revision}
    made = site.changed("POST", "/rollback", wanted, int(before["revision"]))
    return made, [f"in force: {_of(made)}"]


def _of(change: Document) -> str:
    return (
        f"revision {change['revision']}  {change['at']}  {change['source']} by {change['who']}  {change['fingerprint']}"
    )


def _section(file: str) -> object:
    """The content of the section `sampling` in this file. Raises Trouble if it cannot be read."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        found, double = parse(text)
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{file} cannot be read: {error}") from error
    except InvalidValue as error:
        raise Trouble(f"{file}: found {error.errors[0].found}; allowed: {error.errors[0].allowed}") from error
    if double:
        raise Trouble(*(f"{file}: {each}" for each in double))
    if isinstance(found, dict) and "sampling" in found:
        found = found["sampling"] or {}
    if not isinstance(found, dict):
        raise Trouble(
            f"{file} has no policies: it must have the content of the section `sampling`, or be a settings file"
        )
    try:
        json.dumps(found)
    except (TypeError, ValueError, RecursionError) as error:
        raise Trouble(f"{file} cannot be written as JSON: {error}") from error
    return found


# -- the command line


def describe(parser: argparse.ArgumentParser) -> None:
    """Its verbs, and the arguments of each."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def command(name: str, does: Callable[[Site, argparse.Namespace], Answer], text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, parents=[shared_options()], help=text, description=text)
        made.add_argument(
            "--as", dest="sender", metavar="NAME", help="who asks, for the history (default: the user and the host)"
        )
        made.set_defaults(does=does)
        return made

    show = command("show", _show, "Show the policies in force as YAML, or those of an earlier revision.")
    show.add_argument("revision", nargs="?", type=_revision, metavar="REVISION")
    diff = command(
        "diff", _diff, "Check policies, and show what they would change. Without FILE: what the API has changed."
    )
    completes_files(diff.add_argument("file", nargs="?", metavar="FILE", help="- reads from stdin"))
    apply = command("apply", _apply, "Check policies, and bring them into use on all replicas.")
    completes_files(apply.add_argument("file", metavar="FILE", help="- reads from stdin"))
    apply.add_argument(
        "--revision",
        type=_revision,
        help="refuse if the policies are not at this revision (default: that of the comparison)",
    )
    command("history", _history, "Show the last changes, the newest first.")
    rollback = command("rollback", _rollback, "Bring the policies of an earlier revision into use again.")
    rollback.add_argument(
        "revision", nargs="?", type=_revision, metavar="REVISION", help="default: those before the current ones"
    )


def _revision(word: str) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 15 or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not a revision, such as 3; see tss policies history")
    return int(word)
