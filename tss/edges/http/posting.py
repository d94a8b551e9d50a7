"""One HTTP POST and its outcome. This is the only place where httpx's errors are translated."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import attrs
import httpx
import structlog
import trio

from tss.core.delivery import Again, Misconfigured, Outcome
from tss.edges.http.answers import Answer, AnswerRules, outcome_of, shortened
from tss.edges.http.protocol_probe import TLS, other_protocol
from tss.edges.http.proxies import Proxy, proxy_for
from tss.edges.tls import trusted

log = structlog.get_logger()

# The OTLP specification's limit for what a client should read; no answer comes near it.
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_CONNECT_SECS = 10.0  # so that a host that drops packets looks different from a server that takes long to answer

# By httpx's error, the first that matches: whether trying again may help, and the reason in metrics and logs.
TROUBLES: Sequence[tuple[type[httpx.HTTPError], type[Again | Misconfigured], str]] = (
    (httpx.ConnectTimeout, Again, "connect"),
    (httpx.ConnectError, Again, "connect"),
    (httpx.TimeoutException, Again, "timeout"),
    (httpx.ProxyError, Again, "proxy"),
    (httpx.UnsupportedProtocol, Misconfigured, "request"),
    (httpx.LocalProtocolError, Misconfigured, "request"),  # a header that HTTP does not allow
    (httpx.HTTPError, Again, "network"),
)


# After these reasons the port is probed for its protocol: it closed the connection without an answer, or its answer is not HTTP.
PROBED = ("network", "stranger", "tls")

# TLS alerts after which trying again is useless: our certificate has to change, or the authorities that the server trusts.
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


class Client(httpx.AsyncClient):
    """httpx's client, with the proxy's name for error messages."""

    def __init__(self, proxy: Proxy | None, **options: Any) -> None:
        super().__init__(proxy=None if proxy is None else _as_httpx(proxy), **options)
        # Ends each error message. Without the credentials.
        self.through = "" if proxy is None else f"through the proxy {proxy.address} of {proxy.variable}"
        self.answered = False  # in HTTP, with any status

    def with_proxy(self, trouble: Again | Misconfigured) -> Again | Misconfigured:
        """The outcome, with the proxy's name in its detail."""
        if not self.through:
            return trouble
        return attrs.evolve(trouble, detail=f"{trouble.detail} ({self.through})")


def open_client(
    base_url: str, headers: Mapping[str, str], max_connections: int, *, verify: ssl.SSLContext | bool, proxies: bool
) -> Client:
    """A client that keeps its connections open; ``post`` sets the time limits.

    ``verify``: True trusts the authorities that the environment names. ``proxies``: use the environment's proxies. Raises
    WrongSetting if one of these variables is wrong.
    """
    return Client(
        _proxy_to(base_url) if proxies else None,
        base_url=base_url,
        # UTF-8, so that a header value that is not ASCII does not raise at each request.
        headers=httpx.Headers({"Accept-Encoding": "identity", **headers}, encoding="utf-8"),
        limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        timeout=None,  # see post
        verify=trusted() if verify is True else verify,
        trust_env=False,
        # Cookies are dropped: they would be sent with each request, and a server may refuse many of them as too large (431).
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


def _proxy_to(base_url: str) -> Proxy | None:
    proxy = proxy_for(base_url, os.environ)
    if proxy is not None:
        host = httpx.URL(base_url).host
        log.info("requests go through a proxy", to=host, proxy=proxy.address, variable=proxy.variable)
    return proxy


def _as_httpx(proxy: Proxy) -> httpx.Proxy:
    # httpx's own context would also trust certifi, and would not find certificates in a folder without hashed names.
    context = trusted() if proxy.scheme == "https" else None
    return httpx.Proxy(proxy.address, ssl_context=context, auth=proxy.credentials)


async def post(
    client: Client, path: str, body: bytes, headers: Mapping[str, str], timeout_secs: float
) -> Answer | Again | Misconfigured:
    """Send once. The time limit is for the whole exchange: httpx's own limits restart with each piece that arrives."""
    timeout = httpx.Timeout(None, connect=min(timeout_secs, MAX_CONNECT_SECS))
    request = client.build_request("POST", path, headers={**headers, "Content-Length": str(len(body))}, timeout=timeout)
    request.stream = sent = _Body(body)  # httpx would wrap `content` in a generator: see _Body
    # On Python 3.13 an error of httpx keeps this frame, and would keep the body, until the next garbage collection.
    del body
    response: httpx.Response | None = None
    trouble: Again | Misconfigured | None = None
    with trio.move_on_after(timeout_secs):
        try:
            async with aclosing(await client.send(request, stream=True)) as response:
                client.answered = True
                content = await _body(response)
                return _answer(client, response, content)
        except httpx.HTTPError as error:
            trouble = _translate(error)  # keeping the error would keep this frame and the body in a reference cycle
        finally:
            sent.forget()
    if response is not None:  # the status has decided: sending again because the body got lost would make duplicates
        return _answer(client, response, b"")
    if trouble is None:
        return client.with_proxy(Again("timeout", f"no answer within {timeout_secs:g} s"))
    return await _probed(client, trouble)


async def send(
    client: Client, path: str, body: bytes, headers: Mapping[str, str], timeout_secs: float, rules: AnswerRules
) -> Outcome:
    """Send once. What the answer, or the missing answer, means for the data."""
    answer = await post(client, path, body, headers, timeout_secs)
    return outcome_of(answer, rules) if isinstance(answer, Answer) else answer


def _answer(client: Client, response: httpx.Response, body: bytes) -> Answer:
    url = str(response.request.url.copy_with(userinfo=b"", query=None))
    return Answer(response.status_code, response.headers, body, url, client.through)


async def _probed(client: Client, trouble: Again | Misconfigured) -> Again | Misconfigured:
    """The trouble, with the port's protocol if that is the cause: a port that never answered in HTTP may speak another one."""
    certificate = trouble.reason == "tls" and isinstance(trouble, Misconfigured)
    if client.answered or client.through or certificate or trouble.reason not in PROBED:
        return client.with_proxy(trouble)
    found = await other_protocol(client.base_url)
    return Misconfigured("tls" if found == TLS else "http2", f"{found}: {trouble.detail}") if found else trouble


class _Body(httpx.AsyncByteStream):
    """A request's body that can be let go before its request. httpx's requests and responses form reference cycles, and the
    garbage collector runs so rarely here that the bodies of many minutes would wait for it.

    Not an async generator: if the connection is cut, an unfinished generator also waits for the garbage collector.
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
    """The body as it arrived. A body that is too long is read to its end and not kept."""
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
            return (Misconfigured if ours else Again)("tls", shortened(str(cause)))
        if type(cause).__module__.startswith("h11.") and isinstance(error, httpx.RemoteProtocolError):
            # The server may have taken the batch, and quick repeats could then repeat it for ever.
            detail = f"the answer is not HTTP/1.1; check the address and the port: {cause}"
            return Misconfigured("stranger", shortened(detail))
    outcome, reason = next((outcome, reason) for kind, outcome, reason in TROUBLES if isinstance(error, kind))
    root = [*_causes(error)][-1]
    said = dict.fromkeys(words for words in (str(error), str(root) or type(root).__name__) if words)
    return outcome(reason, shortened(f"{type(error).__name__}: {': '.join(said)}"))


def _refused_by_proxy(status: str, said: str) -> Again | Misconfigured:
    """For a proxy's answer to CONNECT. Its answer to a plain request is a normal answer; a 407 has the same reason in both."""
    if status == "407":
        return Misconfigured(
            "http_407",
            f"{shortened(said)}: the proxy does not take the user and password; check them in the proxy variable",
        )
    return (Misconfigured if status.startswith("4") else Again)("proxy", shortened(f"the proxy answers {said}"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, outermost first. If several addresses failed, only the first one's error is followed."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__
