"""Force rules in Redis, where all replicas find them: one hash, and a channel that says when it has changed.

The hash `force:rules` has a field `version`, another after each change, and a field for each rule, its id after `rule:`. A
change replaces all of it at once, if its version is still the one that was read. The channel has the name of the hash and
carries the new version; who hears it reads the hash, which alone says what is so.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import redis
import trio
from redis.exceptions import RedisClusterException

from tss.core.force.changes import Stored
from tss.edges.redis.errors import UNREADABLE
from tss.edges.redis.link import RedisLink

LOOK_SECS = 0.25  # how long the listening thread waits at a time: the end of the daemon need not wait longer
AGAIN_SECS = 1.0  # after a lost connection; the rules are polled meanwhile

OPERATION = "force_rules"  # as the link's metrics have it

_VERSION = b"version"
_RULE = b"rule:"

# Hash and channel; the version that was read, the next one, how long to keep it in ms, then fields and values.
_SWAP = """
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
"""


class RedisRules:
    """See the store of `tasks/forcing`. Listening has a thread and a connection of its own, beside those of the link's calls."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._key = link.key("force", "rules")

    async def read(self) -> Stored:
        """What there is."""
        found = await self._link.call(self._found, operation=OPERATION)
        rules = {
            name.removeprefix(_RULE).decode("utf-8", "replace"): rule
            for name, rule in found.items()
            if name.startswith(_RULE)
        }
        return Stored(found.get(_VERSION, b"").decode("utf-8", "replace"), rules)

    async def swap(self, version: str, rules: Mapping[str, bytes], keep_secs: float) -> bool:
        """These in the place of what was there, unless that is another version by now: then False. All hear of it."""
        fields = [each for rule_id, rule in rules.items() for each in (_RULE + rule_id.encode(), rule)]
        given: list[str | int | bytes] = [version, secrets.token_hex(8), round(keep_secs * 1000), *fields]
        return bool(await self._link.call(lambda client: client.eval(_SWAP, 1, self._key, *given), operation=OPERATION))

    def _found(self, client: Any) -> Mapping[bytes, bytes]:
        found = dict(client.hgetall(self._key))
        if not all(isinstance(each, bytes) for field in found.items() for each in field):
            raise TypeError("the answer is no hash")  # the link says Away
        return found

    async def listen(self, changed: Callable[[], None]) -> NoReturn:
        """Until cancelled, call ``changed`` in this event loop after each change, and when one may have been missed."""
        over = threading.Event()
        tell = partial(trio.lowlevel.current_trio_token().run_sync_soon, changed, idempotent=True)
        try:
            # Left behind when cancelled: it ends within LOOK_SECS by itself, or with its connection's time limits.
            await trio.to_thread.run_sync(
                self._listen, tell, over, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
        finally:
            over.set()
        raise AssertionError("listening ends only when it is told to")

    def _listen(self, tell: Callable[[], None], over: threading.Event) -> None:
        """The thread: connect, hear, and again, however often the connection is lost."""
        while not over.is_set():
            try:
                self._hear(tell, over)
            except (redis.RedisError, RedisClusterException, OSError, trio.RunFinishedError, *UNREADABLE):
                over.wait(AGAIN_SECS)

    def _hear(self, tell: Callable[[], None], over: threading.Event) -> None:
        client: Any = self._link.client_now()
        with client.pubsub() as channel:
            channel.subscribe(self._key)
            # A client that the link has left may be connected to a server that is the master no more.
            while not over.is_set() and self._link.client_now() is client:
                # What is heard first is that we are subscribed: the rules may have changed before.
                if channel.get_message(timeout=LOOK_SECS) is not None and not over.is_set():
                    tell()
