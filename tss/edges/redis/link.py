"""The link to Redis: calls run on worker threads, each within a time limit, and fail at once while Redis is away."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from threading import Lock
from typing import TypeVar
from urllib.parse import quote

import redis
import structlog
import trio
from redis.exceptions import RedisClusterException, RedisError

from tss.core import measures
from tss.core.delivery import Retrying
from tss.core.errors import Away
from tss.core.health import Health
from tss.core.measures import Meter
from tss.edges.redis.endpoint import RedisEndpoint
from tss.edges.redis.errors import TIMEOUT, UNREADABLE, CallFailure, reason_of
from tss.settings import Redis
from tss.settings.errors import MASK

T = TypeVar("T")

log = structlog.get_logger()

VERSION = 1  # of the layout of all keys (docs/redis.md)
COMPONENT = "redis"
PROBE = "probe"  # as an operation
LOOK_SECS = 5.0  # between two probes of a link that nobody uses
PROBING = Retrying(0.1, max_secs=LOOK_SECS)  # between two probes while Redis is away
PROBE_KEY_SECS = 60
# A small probe may pass where real calls fail: a slow script, a large hash, a network that loses full packets. Each real
# call then waits for its timeout in vain. So the link rests after the second failure in a row, longer each time. With the
# longest rest one call in twelve is waited for.
RESTING = Retrying(5.0, max_secs=60.0)
REPEAT_SECS = 30.0


class RedisLink:
    """Called from trio by `call`, and from other threads by `call_now`. Both raise Away."""

    def __init__(self, settings: Redis, group: str, meter: Meter, health: Health) -> None:
        self._endpoint = RedisEndpoint.of(settings)
        self._prefix = f"tss:{VERSION}", quote(group, safe="")  # a brace in it would be a hash tag
        self._secrets = [each for each in (settings.password, self._endpoint.url.password) if each]
        # One timeout for the connection, one for the answer.
        self._call_secs = 2 * settings.connection_timeout_secs
        self._limiter = trio.CapacityLimiter(settings.pool_size)
        self._client: redis.Redis | None = None
        self._connecting = Lock()
        self._state = _State(self._endpoint.address, meter, health)
        self._meter = meter

    def __repr__(self) -> str:
        return f"<RedisLink to {self._endpoint.address} {self._state.trouble or 'up'}>"

    def key(self, *parts: str | int, tag: str = "") -> str:
        """A key of this group. Keys with the same tag, or all without one, share a slot of a Cluster, as one script needs."""
        version, group = self._prefix
        return ":".join((version, f"{{{group}:{tag}}}" if tag else f"{{{group}}}", *map(str, parts)))

    async def call(self, work: Callable[[redis.Redis], T], *, operation: str = "other") -> T:
        """Run ``work`` with the client on a worker thread. After a cancellation or a timeout it may still have an effect."""
        self._state.check()
        return await self._bounded(work, operation)

    def call_now(self, work: Callable[[redis.Redis], T], *, operation: str = "other") -> T:
        """Run ``work`` with the client on this thread, which is not trio's, and block. The limits are those of `call`."""
        self._state.check()
        return self._attempt(work, operation)

    @property
    def is_away(self) -> bool:
        """Whether a call would be refused at once."""
        return self._state.closed

    def client_now(self) -> redis.Redis:
        """The client itself, for connections that stay open (pub/sub). Raises what redis-py raises."""
        with self._connecting:  # a Cluster connects here: once, not once a thread
            if self._client is None:
                self._client = self._endpoint.connect()
            return self._client

    def _leave(self, client: redis.Redis) -> None:
        """The next call connects again, and resolves the name again.

        A server that answers READONLY, LOADING or MASTERDOWN keeps its connections. After a failover behind one name,
        these connections would bind the link to the demoted server for ever.
        """
        with self._connecting:
            if self._client is not client:
                return  # another call did this already
            self._client = None
        pool = getattr(client, "connection_pool", None)  # a Cluster has one for each node, which close with the client
        if pool is not None:
            pool.disconnect(inuse_connections=False)  # other calls use the rest, which close after these calls

    async def _bounded(self, work: Callable[[redis.Redis], T], operation: str) -> T:
        with trio.move_on_after(self._call_secs):
            return await trio.to_thread.run_sync(
                self._attempt, work, operation, limiter=self._limiter, abandon_on_cancel=True
            )
        raise self._failed(operation, TIMEOUT, f"no answer within {self._call_secs:g} s")

    def _attempt(self, work: Callable[[redis.Redis], T], operation: str) -> T:
        began = time.perf_counter()
        client: redis.Redis | None = None
        try:
            client = self.client_now()
            done = work(client)
        except (RedisError, RedisClusterException, OSError, *UNREADABLE) as error:
            reason = reason_of(error)
            if reason.closes and client is not None:
                self._leave(client)
            raise self._failed(operation, reason, self._told(error)) from error
        self._meter.observe(measures.REDIS_CALLS, time.perf_counter() - began, operation)
        self._state.succeed(operation)
        return done

    def _told(self, error: BaseException) -> str:
        """The error's text without passwords. No error is known to contain one; this makes sure."""
        text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def _failed(self, operation: str, reason: CallFailure, detail: str) -> Away:
        self._meter.count(measures.REDIS_ERRORS, 1, operation, reason.label)
        return Away(self._state.fail(reason, detail, operation))

    async def watch(self) -> None:
        """Probe Redis while the link is open. Only a probe reports that Redis is back."""
        probes = 0
        while True:
            if self._state.trouble:
                await trio.sleep(max(PROBING.most_secs(probes), self._state.rest_secs()))
                probes += 1
            else:
                probes = 0
                await self._state.until_trouble(LOOK_SECS)
                if self._state.trouble:
                    continue
            await self.probe()

    async def probe(self) -> bool:
        """Whether Redis takes a small write. PING would succeed on a full server and on a replica too."""
        probe = self.key("probe")
        try:
            await self._bounded(lambda client: client.set(probe, b"", ex=PROBE_KEY_SECS), PROBE)
        except Away:
            return False
        self._state.be_up()
        return True

    def close(self) -> None:
        """Close the connections. Those of a call that hangs close after it."""
        if self._client is not None:
            self._client.close()


class _State:
    """The state of Redis, for calls, the log, metrics and /health. Written from any thread."""

    def __init__(self, address: str, meter: Meter, health: Health) -> None:
        self.trouble = ""
        self.closed = False
        self._noticed = trio.Event()
        self._address = address
        self._meter = meter
        self._health = health
        self._lock = Lock()
        self._token = trio.lowlevel.current_trio_token()
        self._told = ""  # the headline last logged
        self._told_at = 0.0
        # By operation: how many times in a row it closed the link. Only its own success resets this: smaller operations
        # may succeed while it fails.
        self._setbacks: Counter[str] = Counter()
        self._rests_until = 0.0
        health.starting(COMPONENT)

    def check(self) -> None:
        if self.closed:
            raise Away(self.trouble)

    def succeed(self, operation: str) -> None:
        """Take in that a call succeeded."""
        if self._setbacks:
            with self._lock:
                self._setbacks.pop(operation, None)

    def rest_secs(self) -> float:
        """Seconds until the next probe makes sense: probes succeeded before, while the real calls failed."""
        return self._rests_until - time.monotonic()

    def _rest(self, operation: str) -> float:
        """Seconds to rest, after a real call that closed the link. Calls that fail after it do not count: the link is closed."""
        self._setbacks[operation] += 1
        times = self._setbacks[operation]
        secs = 0.0 if times == 1 else RESTING.most_secs(times - 2)
        self._rests_until = time.monotonic() + secs
        return secs

    def fail(self, reason: CallFailure, detail: str, operation: str) -> str:
        """Take in that a call failed. Returns the reason, with what to check."""
        said = f"{reason.headline}: {self._address}: {detail}, {reason.check}"
        with self._lock:
            is_news = not self.trouble
            if reason.closes and not self.closed and operation != PROBE and (rest_secs := self._rest(operation)):
                said = f"{said} (`{operation}` failed {self._setbacks[operation]} times in a row while probes succeeded; the next try is in {rest_secs:g} s)"
            self.trouble, self.closed = said, self.closed or reason.closes
            now = time.monotonic()
            if reason.headline != self._told or now - self._told_at >= REPEAT_SECS:
                log.warning(reason.headline, address=self._address, reason=detail, check=reason.check)
                self._told, self._told_at = reason.headline, now
        self._health.degraded(COMPONENT, said)
        self._meter.set(measures.REDIS_UP, 0, self._address)
        if is_news:
            self._wake()
        return said

    def _wake(self) -> None:
        with suppress(trio.RunFinishedError):  # from a thread that was abandoned
            self._token.run_sync_soon(self._notice)

    def _notice(self) -> None:
        self._noticed.set()

    async def until_trouble(self, max_secs: float) -> None:
        self._noticed = trio.Event()
        if not self.trouble:
            with trio.move_on_after(max_secs):
                await self._noticed.wait()

    def be_up(self) -> None:
        with self._lock:
            self.trouble, self.closed = "", False
            if self._told:
                log.info("Redis is back", address=self._address)
                self._told = ""
        self._health.up(COMPONENT)
        self._meter.set(measures.REDIS_UP, 1, self._address)


Run = Callable[[], Awaitable[None]]


async def _run(task: Run) -> None:
    await task()


@asynccontextmanager
async def open_link(
    settings: Redis, group: str, meter: Meter, health: Health, watch: Callable[[Run], Awaitable[None]] = _run
) -> AsyncIterator[RedisLink]:
    """The link, after one probe. Redis may be away, which is not an error. Raises UnusableFile for a TLS file.

    ``watch`` runs the link's task, so that its caller notices when the task dies.
    """
    link = RedisLink(settings, group, meter, health)
    async with trio.open_nursery() as nursery:
        await link.probe()
        nursery.start_soon(watch, link.watch, name="redis")
        try:
            yield link
        finally:
            nursery.cancel_scope.cancel()
            link.close()
