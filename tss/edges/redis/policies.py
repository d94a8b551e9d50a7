"""The policies in Redis, shared by all replicas: their history, and their texts by fingerprint."""

from __future__ import annotations

from tss.core.policy_history import MAX_TEXT_BYTES
from tss.edges.redis.documents import RedisDocuments
from tss.edges.redis.link import RedisLink

OPERATION = "policies"  # the label in the link's metrics
# A text is needed while its ruleset is in force, in the history, or may decide traces that are read again. Each write and
# each daily look of a replica begins the time anew.
KEEP_SECS = 90 * 86_400


def policy_history(link: RedisLink) -> RedisDocuments:
    """The store of `tasks/reloading`."""
    return RedisDocuments(link, ("policies", "history"), "doc", OPERATION)


class RedisTexts:
    """The texts of rulesets (`state/rulesets`), each under its fingerprint."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def get(self, fingerprint: str) -> str | None:
        """The text; None if Redis does not have it. Raises Away."""
        key = self._key(fingerprint)
        found = await self._link.call(lambda client: client.getex(key, ex=KEEP_SECS), operation=OPERATION)
        if not isinstance(found, bytes) or len(found) > MAX_TEXT_BYTES:
            return None
        try:
            return found.decode()
        except UnicodeDecodeError:
            return None

    async def put(self, fingerprint: str, text: str) -> None:
        """Store the text. Raises Away."""
        key, data = self._key(fingerprint), text.encode()
        await self._link.call(lambda client: client.set(key, data, ex=KEEP_SECS), operation=OPERATION)

    def _key(self, fingerprint: str) -> str:
        return self._link.key("policies", "text", fingerprint)
