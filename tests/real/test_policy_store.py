"""The history and the texts of policies on a real Redis: the contract of a store, and that nothing stays for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts.documents import check_store
from tests.real.redis_server import RedisServer, running
from tests.real.test_force_store import PlainLink
from tss.core.policy_history import MAX_TEXT_BYTES
from tss.edges.redis.policies import KEEP_SECS, RedisTexts, policy_history


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running() as one:
        yield one


async def test_the_contract(server: RedisServer) -> None:
    await check_store(policy_history(PlainLink(server)), policy_history(PlainLink(server)))


async def test_texts_and_what_strangers_wrote_in_their_place(server: RedisServer) -> None:
    one, other = RedisTexts(PlainLink(server)), RedisTexts(PlainLink(server))
    assert await one.get("f" * 16) is None
    await one.put("f" * 16, '{"ü": 1}')
    assert await other.get("f" * 16) == '{"ü": 1}'
    key = f"tss:1:test:policies:text:{'f' * 16}"
    assert 0 < int(server.ask("TTL", key)) <= KEEP_SECS  # type: ignore[call-overload]
    for foreign in (b"\xff\xfe", b"x" * (MAX_TEXT_BYTES + 1)):
        server.client().set(key, foreign)
        assert await one.get("f" * 16) is None
