"""A server's answer to a POST, and what it means for the data that was sent."""

from __future__ import annotations

import json
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import attrs
import httpx

from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Rejected

# A Retry-After of an hour would hold the partition for an hour, though the destination may be back in a minute. A probe
# every five minutes costs nobody anything.
MAX_WAIT_SECS = 300.0
MAX_DETAIL_CHARS = 400
BLAMES_DATA = frozenset((400, 413, 422, 431))  # by these a server says that the request is wrong
CREDENTIALS = frozenset((401, 402, 403))  # by these it says that it does not know who asks, or does not let them
ADDRESS = frozenset((404, 405))  # by these it says that nothing here takes a POST


@attrs.frozen
class Answer:
    """A response. Its body is empty if it was cut off or too slow: the status alone decides."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str = ""  # without user and password
    through: str = ""  # the proxy, which may have answered in place of the server

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def redirects(self) -> bool:
        return 300 <= self.status < 400

    @property
    def media_type(self) -> str:
        """In lower case, without parameters; empty if the server gives none."""
        kind: str = self.headers.get("content-type", "")
        return kind.partition(";")[0].strip().lower()

    @property
    def is_blank(self) -> bool:
        """Whether the body is empty or white space."""
        return not self.body.strip()

    @property
    def is_compressed(self) -> bool:
        """Whether the server compressed the body. No request asks for that, and nothing here can read it."""
        return self.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


@attrs.frozen
class AnswerRules:
    """How to read the answers of one kind of server."""

    server: str  # for people: "an OTLP server"
    again: frozenset[int]  # statuses by which it is busy or away
    misconfigured: frozenset[int]  # statuses by which a setting is wrong; redirects say the same
    read: Callable[[Answer], Accepted | None]
    """What a 2xx with a body says. None if no server of this kind sends such a body."""
    message: Callable[[Answer], str]
    """What the server says about an error."""
    credentials: str = "the credentials"  # the settings to check after 401 and 403
    address: str = "the address"  # the settings to check after 404 and 405


def outcome_of(answer: Answer, rules: AnswerRules) -> Outcome:
    """What the answer means for the data that was sent."""
    return taken(answer, rules) if answer.accepted else judge(answer, rules)


def taken(answer: Answer, rules: AnswerRules) -> Accepted | Misconfigured:
    """What a 2xx means. A body that no server of this kind sends is no success: behind a wrong port or address, data would
    get lost without any error.
    """
    if is_grpc(answer):
        return stranger(answer, rules)
    if answer.is_blank or answer.is_compressed:
        return Accepted()
    return rules.read(answer) or stranger(answer, rules)


def judge(answer: Answer, rules: AnswerRules) -> Again | Misconfigured | Rejected:
    """What an answer other than a success means."""
    reason = f"http_{answer.status}"
    detail = _detail(answer, rules)
    after_secs = retry_after_secs(answer.headers, time.time())
    if answer.status in rules.again:
        return Again(reason, detail, after_secs)
    if answer.status in rules.misconfigured or answer.redirects:
        return Misconfigured(reason, detail)
    return Rejected(reason, detail, answer.status in BLAMES_DATA, after_secs)


def stranger(answer: Answer, rules: AnswerRules) -> Misconfigured:
    """For a success that no server of this kind sends. Whatever its status says, the data is not where it should be."""
    kind = answer.media_type or "no Content-Type"
    said = plain_message(answer.body)
    detail = shortened(
        f"{answer.status} with {kind} is not an answer of {rules.server}; check the address and the port: {said}"
    )
    return Misconfigured("stranger", f"{detail} ({answer.through})" if answer.through else detail)


def is_page(answer: Answer) -> bool:
    """Whether the answer is a web page for a browser."""
    html = ("text/html", "application/xhtml+xml")
    return not answer.is_blank and (answer.media_type in html or _begins(answer.body, b"<"))


def is_grpc(answer: Answer) -> bool:
    """Whether a gRPC server answers. Its HTTP status says nothing: gRPC has a status of its own."""
    return answer.media_type.startswith("application/grpc")


def is_json(media_type: str) -> bool:
    """Whether a body of this type should be JSON."""
    return media_type in ("application/json", "text/json") or media_type.endswith("+json")


def is_text(media_type: str) -> bool:
    """Whether a body of this type is for people."""
    return media_type.startswith("text/") and not is_json(media_type)


def document_of(answer: Answer) -> object | None:
    """The body's JSON, if its type says JSON or it begins like JSON; else None.

    JSON that cannot be read is returned as its text, which matches no document of any server.
    """
    if not is_json(answer.media_type) and not _begins(answer.body, b"{", b"["):
        return None
    try:
        found: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    return plain_message(answer.body) if found is None else found


def _begins(body: bytes, *signs: bytes) -> bool:
    """Whether the first byte is one of these, after white space and a byte order mark."""
    return body.lstrip().removeprefix(BOM_UTF8).lstrip()[:1] in signs


def _detail(answer: Answer, rules: AnswerRules) -> str:
    """For people: `401 Unauthorized: token expired; check the exporter's bearerToken and headers`."""
    phrases = {status.value: status.phrase for status in HTTPStatus}
    detail = f"{answer.status} {phrases.get(answer.status, '')}".strip()
    said = shortened(_redirection(answer) if answer.redirects else rules.message(answer))
    if said:
        detail = f"{detail}: {said}"
    if answer.status in CREDENTIALS:
        detail = f"{detail}; check {rules.credentials}"
    elif answer.status in ADDRESS or answer.redirects:
        detail = f"{detail}; the request went to {answer.url}: check {rules.address}"
    return f"{detail} ({answer.through})" if answer.through else detail


def _redirection(answer: Answer) -> str:
    target = answer.headers.get("location", "nowhere").partition("?")[0]
    return f"redirects are not followed; this one points to {target}"


def plain_message(body: bytes) -> str:
    """The text that a server wrote for people, shortened to one line."""
    return shortened(body[: 4 * MAX_DETAIL_CHARS].decode(errors="replace"))


def shortened(words: str) -> str:
    """One printable line of at most `MAX_DETAIL_CHARS`."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return line if len(line) <= MAX_DETAIL_CHARS else line[: MAX_DETAIL_CHARS - 1] + "…"


def retry_after_secs(headers: Mapping[str, str], now: float) -> float | None:
    """The wait that Retry-After asks for, in seconds or as a date; at most `MAX_WAIT_SECS`. None if it cannot be read.

    A date is compared with the server's own clock if the answer has a Date, else with ``now``, in seconds since the epoch.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_WAIT_SECS)
    until = _http_date(value)
    if until is None:
        return None
    since = _http_date(headers.get("date", ""))
    return min(max(until - (now if since is None else since), 0.0), MAX_WAIT_SECS)


def _http_date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
