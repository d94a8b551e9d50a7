"""Documents in Redis, shared by all replicas: one hash, and a channel that announces its changes.

The hash has a field `version`, which changes each time, and a field `<kind>:<id>` for each document. A change replaces the
whole hash, provided that its version is still the one that was read. The channel has the name of the hash and carries the
new version. Subscribers then read the hash: the message itself is not trusted. Force rules are in `force:rules`, the
history of the policies is in `policies`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import redis
import trio
from redis.exceptions import RedisClusterException

from tss.core.documents import Stored
from tss.edges.redis.errors import UNREADABLE
from tss.edges.redis.link import RedisLink

LOOK_SECS = 0.25  # the listening thread waits this long at a time, so the daemon's end waits no longer
AGAIN_SECS = 1.0  # between two connections; the documents are polled meanwhile

_VERSION = b"version"

# Key and channel; the version that was read, the next version, the time to live in ms, then fields and values.
_SWAP = """
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
"""


class RedisDocuments:
    """A store of documents (`state/documents`). Listening has its own thread and connection, beside those of the link's calls."""

    def __init__(self, link: RedisLink, key: Sequence[str], kind: str, operation: str) -> None:
        """``key`` names the hash, and ``kind`` begins the field of each document. ``operation`` is the label in the link's metrics."""
        self._link = link
        self._key = link.key(*key)
        self._prefix = f"{kind}:".encode()
        self._operation = operation

    async def read(self) -> Stored:
        """The documents and their version. Raises Away."""
        found = await self._link.call(self._found, operation=self._operation)
        documents = {
            name.removeprefix(self._prefix).decode("utf-8", "replace"): document
            for name, document in found.items()
            if name.startswith(self._prefix)
        }
        return Stored(found.get(_VERSION, b"").decode("utf-8", "replace"), documents)

    async def swap(self, version: str, documents: Mapping[str, bytes], keep_secs: float) -> bool:
        """Replace the documents, and announce it. False when the version is not ``version`` any more. Raises Away."""
        fields = [each for name, document in documents.items() for each in (self._prefix + name.encode(), document)]
        given: list[str | int | bytes] = [version, secrets.token_hex(8), round(keep_secs * 1000), *fields]
        done = await self._link.call(lambda client: client.eval(_SWAP, 1, self._key, *given), operation=self._operation)
        return bool(done)

    def _found(self, client: Any) -> Mapping[bytes, bytes]:
        found = dict(client.hgetall(self._key))
        if not all(isinstance(each, bytes) for field in found.items() for each in field):
            raise TypeError("the answer is not a hash")  # the link turns this into Away
        return found

    async def listen(self, changed: Callable[[], None]) -> NoReturn:
        """Until cancelled: call ``changed`` in this event loop after each change, and after each connection."""
        over = threading.Event()
        tell = partial(trio.lowlevel.current_trio_token().run_sync_soon, changed, idempotent=True)
        try:
            # Abandoned when cancelled: the thread ends within LOOK_SECS, or within its connection's timeouts.
            await trio.to_thread.run_sync(
                self._listen, tell, over, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
        finally:
            over.set()
        raise AssertionError("the listening thread ends only after `over` is set")

    def _listen(self, tell: Callable[[], None], over: threading.Event) -> None:
        """On the thread: connect and listen, again after each lost connection."""
        while not over.is_set():
            try:
                self._hear(tell, over)
            except (redis.RedisError, RedisClusterException, OSError, trio.RunFinishedError, *UNREADABLE):
                over.wait(AGAIN_SECS)

    def _hear(self, tell: Callable[[], None], over: threading.Event) -> None:
        client: Any = self._link.client_now()
        with client.pubsub() as channel:
            channel.subscribe(self._key)
            # When the link has left this client, its server may no longer be the master.
            while not over.is_set() and self._link.client_now() is client:
                # The first message confirms the subscription. Before it the documents may have changed, so it counts too.
                if channel.get_message(timeout=LOOK_SECS) is not None and not over.is_set():
                    tell()


def force_rules(link: RedisLink) -> RedisDocuments:
    """The store of `tasks/forcing`."""
    return RedisDocuments(link, ("force", "rules"), "rule", "force_rules")
