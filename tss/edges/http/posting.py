"""One HTTP POST, and what its answer means for the batch that was in it: httpx's errors are translated here, once."""

from __future__ import annotations

import json
import os
import ssl
import time
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import attrs
import httpx
import structlog
import trio

from tss.core.delivery import Again, Misconfigured, Rejected
from tss.edges.http.greeting import TLS, other_protocol
from tss.edges.http.proxies import Proxy, proxy_for
from tss.edges.tls import trusted

log = structlog.get_logger()

# The OTLP specification's limit for what a client should read; no answer comes near it.
MAX_ANSWER_BYTES = 4 * 1024 * 1024
# A Retry-After of an hour holds the partition for an hour, though the destination may be back in a minute. A probe every
# five minutes costs nobody anything.
MAX_WAIT_SECS = 300.0
MAX_CONNECT_SECS = 10.0  # so that a host that drops packets is told from one that thinks long
MAX_DETAIL_CHARS = 400
BLAMES_DATA = frozenset((400, 413, 422, 431))  # statuses by which a server says that the request is wrong

# What httpx raises, the first that fits: whether trying again may help, and the label it is counted under.
TROUBLES: Sequence[tuple[type[httpx.HTTPError], type[Again | Misconfigured], str]] = (
    (httpx.ConnectTimeout, Again, "connect"),
    (httpx.ConnectError, Again, "connect"),
    (httpx.TimeoutException, Again, "timeout"),
    (httpx.ProxyError, Again, "proxy"),
    (httpx.UnsupportedProtocol, Misconfigured, "request"),
    (httpx.LocalProtocolError, Misconfigured, "request"),  # a header that HTTP does not allow
    (httpx.HTTPError, Again, "network"),
)


# After these the port is asked what it speaks: it ended the connection without a word, or its words are not HTTP's.
UNSPOKEN = ("network", "stranger", "tls")

# Of the alerts by which a server ends TLS: those that only another certificate of ours, or its own trust, will mend.
OUR_CERTIFICATE = (
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN",
    "UNSUPPORTED_CERTIFICATE",
    "ACCESS_DENIED",
)


@attrs.frozen
class Answer:
    """A response; the body is empty where it was cut off or too slow, since the status is the answer."""

    status: int
    headers: httpx.Headers
    body: bytes
    through: str = ""  # the proxy, which may have answered itself

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def media_type(self) -> str:
        """In lower case, without parameters; empty where the server gives none."""
        kind: str = self.headers.get("content-type", "")
        return kind.partition(";")[0].strip().lower()

    @property
    def says_nothing(self) -> bool:
        """Whether there is no body, or a blank one."""
        return not self.body.strip()

    @property
    def is_compressed(self) -> bool:
        """Though that was not asked for: the body cannot be read."""
        return self.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


@attrs.frozen
class Rules:
    """Which statuses say that the server is busy or away, and which that a setting is wrong, as redirects do. Of the rest only
    other answers show whether the data is to blame.
    """

    again: frozenset[int]
    misconfigured: frozenset[int]


class Client(httpx.AsyncClient):
    """httpx's, and what is known of the way."""

    def __init__(self, proxy: Proxy | None, **options: Any) -> None:
        super().__init__(proxy=None if proxy is None else _as_httpx(proxy), **options)
        # For people: what stands after an error. Never the credentials.
        self.through = "" if proxy is None else f"through the proxy {proxy.address} of {proxy.variable}"
        self.answered = False  # in HTTP, whatever it said

    def tells(self, trouble: Again | Misconfigured) -> Again | Misconfigured:
        """The trouble, with the proxy's name."""
        if not self.through:
            return trouble
        return attrs.evolve(trouble, detail=f"{trouble.detail} ({self.through})")


def open_client(
    base_url: str, headers: Mapping[str, str], max_connections: int, *, verify: ssl.SSLContext | bool, proxies: bool
) -> Client:
    """A client whose connections are kept; ``post`` sets the limits of time. ``verify``: True trusts whom the environment
    says; ``proxies``: those of the environment are used. Raises WrongSetting for what is wrong there.
    """
    return Client(
        _proxy_to(base_url) if proxies else None,
        base_url=base_url,
        # UTF-8, for a stray letter must not raise with each request.
        headers=httpx.Headers({"Accept-Encoding": "identity", **headers}, encoding="utf-8"),
        limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        timeout=None,  # see post
        verify=trusted() if verify is True else verify,
        trust_env=False,
        # No server's cookie is kept: it would go with each request from then on, and enough of them make a server refuse
        # each as too large (431).
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


def _proxy_to(base_url: str) -> Proxy | None:
    proxy = proxy_for(base_url, os.environ)
    if proxy is not None:
        host = httpx.URL(base_url).host
        log.info("requests go through a proxy", to=host, proxy=proxy.address, variable=proxy.variable)
    return proxy


def _as_httpx(proxy: Proxy) -> httpx.Proxy:
    # The library's own context would trust certifi besides, and not know a folder whose files have plain names.
    context = trusted() if proxy.scheme == "https" else None
    return httpx.Proxy(proxy.address, ssl_context=context, auth=proxy.credentials)


async def post(
    client: Client, path: str, body: bytes, headers: Mapping[str, str], timeout_secs: float
) -> Answer | Again | Misconfigured:
    """Send once. The time limit is for the whole exchange: httpx's own start anew with each piece that trickles in."""
    timeout = httpx.Timeout(None, connect=min(timeout_secs, MAX_CONNECT_SECS))
    request = client.build_request("POST", path, headers={**headers, "Content-Length": str(len(body))}, timeout=timeout)
    request.stream = sent = _Body(body)  # given as `content` it would be wrapped in a generator: see _Body
    response: httpx.Response | None = None
    trouble: Again | Misconfigured | None = None
    with trio.move_on_after(timeout_secs):
        try:
            async with aclosing(await client.send(request, stream=True)) as response:
                client.answered = True
                return Answer(response.status_code, response.headers, await _body(response), client.through)
        except httpx.HTTPError as error:
            trouble = _translate(error)  # the error itself would keep this frame, and the body with it, in a circle
        finally:
            sent.forget()
    if response is not None:  # it has decided; sending again because its explanation got lost would make duplicates
        return Answer(response.status_code, response.headers, b"", client.through)
    if trouble is None:
        return client.tells(Again("timeout", f"no answer within {timeout_secs:g} s"))
    return await _looked_at(client, trouble)


async def _looked_at(client: Client, trouble: Again | Misconfigured) -> Again | Misconfigured:
    """The trouble by its name: a port that has never answered in HTTP may speak something else."""
    certificate = trouble.reason == "tls" and isinstance(trouble, Misconfigured)
    if client.answered or client.through or certificate or trouble.reason not in UNSPOKEN:
        return client.tells(trouble)
    found = await other_protocol(client.base_url)
    return Misconfigured("tls" if found == TLS else "http2", f"{found}: {trouble.detail}") if found else trouble


class _Body(httpx.AsyncByteStream):
    """A request's body, which can be taken away from it: httpx's requests and responses refer to each other in a circle,
    and with the collector as rare as here the bodies of many minutes would wait for it.

    No async generator: one that is left in its middle, since the connection was cut, waits for the collector too.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._left = 1

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return self._body

    def forget(self) -> None:
        self._body = b""


async def _body(response: httpx.Response) -> bytes:
    """The body as it came: compressed ones are not asked for. One too long is read to its end and not kept."""
    body = bytearray()
    size = 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size <= MAX_ANSWER_BYTES:
            body += piece
    return bytes(body) if size <= MAX_ANSWER_BYTES else b""


def _translate(error: httpx.HTTPError) -> Again | Misconfigured:
    if isinstance(error, httpx.ProxyError) and (status := str(error)[:3]).isdigit():
        return _refused_by_proxy(status, str(error))
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Misconfigured("tls", f"the server's certificate was not accepted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            ours = any(word in (cause.reason or "") for word in OUR_CERTIFICATE)
            return (Misconfigured if ours else Again)("tls", _shortened(str(cause)))
        if type(cause).__module__.startswith("h11.") and isinstance(error, httpx.RemoteProtocolError):
            # It may have taken the batch, so that a quick repeat may be one for ever.
            detail = f"the answer is not HTTP/1.1; check the address and the port: {cause}"
            return Misconfigured("stranger", _shortened(detail))
    outcome, reason = next((outcome, reason) for kind, outcome, reason in TROUBLES if isinstance(error, kind))
    root = [*_causes(error)][-1]
    said = dict.fromkeys(words for words in (str(error), str(root) or type(root).__name__) if words)
    return outcome(reason, _shortened(f"{type(error).__name__}: {': '.join(said)}"))


def _refused_by_proxy(status: str, said: str) -> Again | Misconfigured:
    """To a CONNECT. To a plain request it is an answer like any other; a 407 has the same name on both ways."""
    if status == "407":
        return Misconfigured("http_407", f"{_shortened(said)}: the proxy does not take the user and password")
    return (Misconfigured if status.startswith("4") else Again)("proxy", _shortened(f"the proxy answers {said}"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, outermost first; of several addresses that failed, the first one's story."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__


def judge(answer: Answer, rules: Rules, message: str) -> Again | Misconfigured | Rejected:
    """What an answer other than a success means; ``message`` is what the server said."""
    reason = f"http_{answer.status}"
    detail = _detail(answer, message)
    after_secs = retry_after_secs(answer.headers, time.time())
    if answer.status in rules.again:
        return Again(reason, detail, after_secs)
    if answer.status in rules.misconfigured or 300 <= answer.status < 400:
        return Misconfigured(reason, detail)
    return Rejected(reason, detail, answer.status in BLAMES_DATA, after_secs)


def stranger(answer: Answer, whose: str) -> Misconfigured:
    """A success that no server of the protocol sends: whatever the status says, the data did not arrive where it should."""
    kind = answer.media_type or "no Content-Type"
    said = plain_message(answer.body)
    detail = _shortened(
        f"{answer.status} with {kind} is not an answer of {whose}; check the address and the port: {said}"
    )
    return Misconfigured("stranger", f"{detail} ({answer.through})" if answer.through else detail)


def is_page(answer: Answer) -> bool:
    """Whether the answer is written for a browser. An empty body says nothing, whatever its type."""
    html = ("text/html", "application/xhtml+xml")
    return not answer.says_nothing and (answer.media_type in html or _begins(answer.body, b"<"))


def is_grpc(answer: Answer) -> bool:
    """Whether a gRPC server answers; its status stands elsewhere, so that this one says nothing."""
    return answer.media_type.startswith("application/grpc")


def is_json(media_type: str) -> bool:
    """Whether a body of this type should be JSON."""
    return media_type in ("application/json", "text/json") or media_type.endswith("+json")


def is_text(media_type: str) -> bool:
    """Whether a body of this type is for people."""
    return media_type.startswith("text/") and not is_json(media_type)


def document_of(answer: Answer) -> object | None:
    """The body's JSON: by its type, or, whatever the type says, as it begins; None where it is neither. Of what should be
    JSON and cannot be read it is the text, which is no document of anybody's.
    """
    if not is_json(answer.media_type) and not _begins(answer.body, b"{", b"["):
        return None
    try:
        found: object = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    return plain_message(answer.body) if found is None else found


def _begins(body: bytes, *signs: bytes) -> bool:
    """After white space and a mark of the byte order."""
    return body.lstrip().removeprefix(BOM_UTF8).lstrip()[:1] in signs


def _detail(answer: Answer, message: str) -> str:
    """Such as `401 Unauthorized: token expired`."""
    phrases = {status.value: status.phrase for status in HTTPStatus}
    status = f"{answer.status} {phrases.get(answer.status, '')}".strip()
    if 300 <= answer.status < 400:
        place = answer.headers.get("location", "nowhere").partition("?")[0]
        message = f"redirects are not followed; it points to {place}"
    said = _shortened(message)
    detail = f"{status}: {said}" if said else status
    return f"{detail} ({answer.through})" if answer.through else detail


def plain_message(body: bytes) -> str:
    """What a server wrote for people."""
    return _shortened(body[: 4 * MAX_DETAIL_CHARS].decode(errors="replace"))


def _shortened(words: str) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return line if len(line) <= MAX_DETAIL_CHARS else line[: MAX_DETAIL_CHARS - 1] + "…"


def retry_after_secs(headers: Mapping[str, str], now: float) -> float | None:
    """What Retry-After asks for, in seconds or as a date, at most `MAX_WAIT_SECS`; None when it says nothing clear.

    A date is compared with the server's own clock where it gives that too. ``now`` is in seconds since the epoch.
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
