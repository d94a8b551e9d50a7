"""`tss why`: asks every replica what was decided about a trace, and why."""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import socket
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import SplitResult, urlsplit

import attrs

from tss.commands import DONE, FAILED
from tss.commands.admin import DEFAULT_URL, MAX_ANSWER_BYTES, Trouble, given_token, tell, tell_trouble
from tss.commands.config import completes_files
from tss.commands.units import share
from tss.settings import CONFIG_VARIABLE, SettingsError, load

TOKEN_VARIABLE = "TSS_OBSERVABILITY_READ_TOKEN"  # noqa: S105  # its name, not its value
ANSWER_SECS = 10
MOST_REPLICAS = 256
AT_ONCE = 64
MOST_WIDTH = 120
DESCRIPTION = """\
Say what was decided about a trace, and why: verdict, policy, the numbers that explain it, and what every other policy said.
It asks all replicas at once, since each knows only the traces that it decided. A name in --url may resolve to many
addresses, such as a headless service of Kubernetes: then each address is asked.
"""
EPILOG = """\
examples:
  %(prog)s 4bf92f3577b34da6a3ce929d0e0e4736
  %(prog)s 4bf92f3577b34da6a3ce929d0e0e4736 --url http://tss-headless:8080
  %(prog)s 4bf92f3577b34da6a3ce929d0e0e4736 --url http://10.0.0.4:8080 --url http://10.0.0.5:8080 --json

The token, if the replicas want one, comes from $TSS_OBSERVABILITY_READ_TOKEN or from the settings.

exit codes: 0 the trace was decided, or is open; 1 no replica that answered knows it; 2 a wrong command line
"""


@attrs.frozen
class Answer:
    """What one replica said: a document, or why there is none."""

    url: str
    document: Mapping[str, Any] | None = None
    trouble: str = ""

    @property
    def state(self) -> str:
        """`decided`, `open`, `unknown`; empty without an answer."""
        return "" if self.document is None else str(self.document["state"])


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("trace_id", metavar="TRACE_ID", type=_trace_id, help="32 hexadecimal digits")
    parser.add_argument(
        "--url",
        action="append",
        type=_base,
        help=f"a replica's health address; may be repeated (default: {DEFAULT_URL})",
    )
    help_text = f"settings to take the token from (default: ${CONFIG_VARIABLE})"
    completes_files(parser.add_argument("--config", metavar="FILE", help=help_text))
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ask all replicas; returns the exit code."""
    try:
        answers = ask_all(options.url or [_base(DEFAULT_URL)], options.trace_id, _token(options.config, environ))
    except Trouble as trouble:
        tell_trouble("tss why", trouble)
        return FAILED
    found = document(options.trace_id, answers)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        tell(told(found, min(MOST_WIDTH, shutil.get_terminal_size().columns)), sys.stdout)
    return DONE if found["state"] in ("decided", "open") else FAILED


# -- asking


def ask_all(urls: Sequence[SplitResult], trace_id: str, token: str) -> list[Answer]:
    """The answers of all replicas, in the order of their addresses. Raises Trouble if a name has no address."""
    addresses = [(url, address) for url in urls for address in _addresses(url)][:MOST_REPLICAS]
    with ThreadPoolExecutor(min(AT_ONCE, len(addresses))) as pool:
        return list(pool.map(lambda each: _ask(each[0], each[1], trace_id, token), addresses))


def _addresses(url: SplitResult) -> list[str]:
    """The addresses of a name. With TLS the certificate has the name, so the name itself is asked."""
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    if url.scheme == "https":
        return [host]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Trouble(f"{host} has no address: {error}; --url names another replica") from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    if host == "localhost":  # both addresses of it are one replica
        return addresses[-1:]
    return addresses


def _ask(url: SplitResult, address: str, trace_id: str, token: str) -> Answer:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    port = url.port or (443 if url.scheme == "https" else 80)
    shown = f"{url.scheme}://{f'[{address}]' if ':' in address else address}:{port}"
    headers = {"Host": url.netloc} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection = kind(address, port, timeout=ANSWER_SECS)
    try:
        connection.request("GET", f"{url.path.rstrip('/')}/api/traces/{trace_id}", headers=headers)
        answer = connection.getresponse()
        return _read(shown, answer.status, answer.read(MAX_ANSWER_BYTES))
    except (OSError, http.client.HTTPException) as error:
        return Answer(shown, trouble=f"no answer: {str(error)[:200] or type(error).__name__}")
    finally:
        connection.close()


def _read(url: str, status: int, body: bytes) -> Answer:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return Answer(url, trouble=f"answers {status} with no JSON: is it the health port of a tss?")
    if isinstance(found, dict) and found.get("state") in ("decided", "open", "unknown"):
        decisions = found.get("decisions", [])
        if isinstance(decisions, list) and all(isinstance(each, dict) for each in decisions):
            return Answer(url, found)
    error = found.get("error") if isinstance(found, dict) else None
    return Answer(url, trouble=f"{str(error)[:400] if error else 'is no tss'} ({status})")


def _token(config: str | None, environ: Mapping[str, str]) -> str:
    """The token for reading; empty if none is set. Raises Trouble if the settings cannot be read."""
    given = given_token(TOKEN_VARIABLE, environ)
    if given is not None:
        return given
    path = config or environ.get(CONFIG_VARIABLE)
    try:
        return load(path, environ, offline=True).observability.read_token if path else ""
    except SettingsError as error:
        raise Trouble(*f"the settings cannot be read: {error}".splitlines()) from error


# -- merging


def document(trace_id: str, answers: Sequence[Answer]) -> dict[str, Any]:
    """All answers as one. A decision that a replica made itself comes before one that it made again after a restart, and
    before one that it follows."""
    rank = {"decided": 0, "replayed": 1, "elsewhere": 2}
    decisions = [
        {"replica": each.document.get("replica", each.url), **decision}
        for each in answers
        if each.document is not None
        for decision in each.document.get("decisions", [])
    ]
    decisions.sort(key=lambda each: rank.get(str(each.get("origin")), 3))
    states = [each.state for each in answers]
    state = next((known for known in ("decided", "open", "unknown") if known in states), "unanswered")
    waits = [
        {"replica": each.document.get("replica", each.url), **each.document["open"]}
        for each in answers
        if each.document is not None and isinstance(each.document.get("open"), dict)
    ]
    return {
        "traceId": trace_id,
        "state": state,
        "decisions": decisions,
        "open": waits,
        "unknown": {each.url: each.document.get("unknownBecause", "") for each in answers if each.document and each.state == "unknown"},
        "unanswered": {each.url: each.trouble for each in answers if each.document is None},
    }  # fmt: skip


# -- in words


def told(found: Mapping[str, Any], width: int) -> Iterator[str]:
    """Lines of at most this width, unless a name is longer."""
    for decision in found["decisions"][:1]:
        yield from _decided(found["traceId"], decision, width)
    others = found["decisions"][1:]
    if others and {each.get("verdict") for each in others} != {found["decisions"][0].get("verdict")}:
        for each in others:
            yield from _wrapped(
                "another", f"{each.get('replica')} says {each.get('verdict')} ({each.get('origin')})", width
            )
    if found["state"] == "open":
        yield f"{found['traceId']}: not decided yet"
    for waits in found["open"]:
        told_of = f"{waits.get('spans')} spans since {waits.get('since')}, on {waits.get('replica')}; it waits {waits.get('waits')}"
        yield from _wrapped("open", told_of, width)
    if found["state"] in ("unknown", "unanswered"):
        yield f"{found['traceId']}: unknown"
        for url, why in found["unknown"].items():
            yield from _wrapped(url, str(why), width)
    for url, why in found["unanswered"].items():
        yield from _wrapped(url, str(why), width)


def _decided(trace_id: str, decision: Mapping[str, Any], width: int) -> Iterator[str]:
    verdict = {"keep": "kept", "drop": "dropped"}.get(str(decision.get("verdict")), "decided")
    rate = decision.get("rate")
    yield f"{trace_id}: {verdict}"
    lines = {
        "policy": f"{decision.get('policy') or 'unknown'}" + (f", keeps {share(rate)}" if isinstance(rate, int | float) and 0 < rate < 1 else ""),
        "because": decision.get("because"),
        "closed": f"{decision.get('closedAt')}, {decision.get('reason')}: {decision.get('closedBecause')}",
        "decided": f"{decision.get('decidedAt')} on {decision.get('replica')}, partition {decision.get('partition')}" + _ORIGIN.get(str(decision.get("origin")), ""),
        "trace": f"{decision.get('spans')} spans, {decision.get('errors')} errors, {decision.get('durationMs')} ms, {decision.get('bytes')} bytes",
        "late": f"{decision.get('lateSpans')} spans came since, and follow it" if decision.get("lateSpans") else None,
        "ruleset": decision.get("ruleset"),
    }  # fmt: skip
    for name, text in lines.items():
        if text:
            yield from _wrapped(name, str(text), width)
    for vote in decision.get("votes") or ():
        if isinstance(vote, dict):
            yield from _wrapped("vote", _vote(vote), width)


_ORIGIN = {
    "replayed": "; decided again after a restart, with the same outcome",
    "elsewhere": "; it follows the decision of another replica",
}


_SAYS = {"abstain": "does not match", "not_sampled": "not sampled", "error": "a condition failed, so it does not match"}


def _vote(vote: Mapping[str, Any]) -> str:
    rate, why = vote.get("rate"), vote.get("because")
    text = f"{vote.get('policy')}: {_SAYS.get(str(vote.get('vote')), vote.get('vote'))}"
    if isinstance(rate, int | float):
        text += f" {share(rate)}"
    if vote.get("shadow"):
        text += " (shadow)"
    return f"{text}: {why}" if why else text


def _wrapped(name: str, text: str, width: int) -> list[str]:
    indent = " " * 11
    first = f"  {name:<8} " if len(name) <= 8 else f"  {name} "
    return textwrap.wrap(
        text, max(40, width), initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )  # fmt: skip


# -- the command line


def _trace_id(text: str) -> str:
    found = text.lower()
    if len(found) != 32 or set(found) - set("0123456789abcdef") or set(found) == {"0"}:
        raise argparse.ArgumentTypeError(f"{text!r} is no trace id: 32 hexadecimal digits, not all of them 0")
    return found


def _base(text: str) -> SplitResult:
    try:
        url = urlsplit(text if "//" in text else f"http://{text}")
        sound = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise argparse.ArgumentTypeError(f"{text!r} is no address such as http://host:8080")
    return url
