"""Which traces were kept, and why, for all replicas of a group (docs/redis.md says what stands under which key).

Written for every exported batch and read when traces close, so what counts is the number of commands and of bytes: the
decisions of a batch go into few hashes, one for each shard of the trace ids and quarter of the time they are kept.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import redis

T = TypeVar("T")

SHARDS = 4  # as many nodes of a Cluster share the work, and as many commands a small batch needs
BUCKETS = 4  # in the time a decision is kept: what is kept longer than asked is a quarter of it
SKEW_SECS = 60  # by which replicas' clocks may differ
# A table of 4 bytes a dropped trace: with 4 shards room for 4 million traces a bucket, in 16 MiB.
SLOTS = 1 << 20
# What a script may unpack onto Lua's stack is 8,000 values.
MOST_FIELDS, MOST_SLOTS = 3000, 1500

# One command and the time to live at once, so that a connection that breaks between them leaves no key for ever.
_WRITE = """\
redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1"""

Item = bytes | str | int


class Link(Protocol):
    """What of RedisLink is used."""

    def key(self, *parts: str | int, tag: str = "") -> str: ...

    async def call(self, work: Callable[[redis.Redis], T], *, operation: str = "other") -> T: ...


class RedisDecisions:
    """Raises Away. Values are bytes of the caller's own; ids are 16 bytes."""

    def __init__(
        self, link: Link, ttl_secs: float, *, remember_dropped: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._link = link
        self._remember_dropped = remember_dropped
        self._ttl_secs = max(1, round(ttl_secs))
        self._bucket_secs = max(1, self._ttl_secs // BUCKETS)
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RedisDecisions for {self._ttl_secs} s in {self._link!r}>"

    async def write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes]) -> None:
        """Remember them, in one pipeline; dropped ones only where that is wanted."""
        commands = [*self._kept_commands(kept)]
        if self._remember_dropped:
            commands += self._dropped_commands(dropped)
        if commands:
            await self._link.call(partial(_write, commands), operation="write_decisions")

    async def read(self, ids: Sequence[bytes]) -> tuple[dict[bytes, bytes], set[bytes]]:
        """The values of those that were kept, and those that were dropped, in one pipeline. Others are not known."""
        if not ids:
            return {}, set()
        shards = _by_shard(ids)
        return await self._link.call(partial(self._read, shards, self._live_buckets()), operation="read_decisions")

    def _kept_commands(self, kept: Mapping[bytes, bytes]) -> Iterator[tuple[str, list[Item]]]:
        bucket = self._bucket(self._clock())
        for shard, ids in _by_shard(kept).items():
            for some in _portions(ids, MOST_FIELDS):
                fields: list[Item] = [self._kept_secs, "HSET"]
                for each in some:
                    fields += each, kept[each]
                yield self._key("kept", bucket, shard), fields

    def _dropped_commands(self, dropped: Sequence[bytes]) -> Iterator[tuple[str, list[Item]]]:
        bucket = self._bucket(self._clock())
        for shard, ids in _by_shard(dropped).items():
            for some in _portions(ids, MOST_SLOTS):
                values: list[Item] = [self._kept_secs, "BITFIELD"]
                for each in some:
                    values += "SET", "u32", _slot(each), _print(each)
                yield self._key("dropped", bucket, shard), values

    @property
    def _kept_secs(self) -> int:
        return self._ttl_secs + SKEW_SECS

    def _bucket(self, now: float) -> int:
        return int(now // self._bucket_secs)

    def _live_buckets(self) -> list[int]:
        now = self._clock()
        # The newest first: what is asked for was mostly decided a moment ago.
        return [*range(self._bucket(now + SKEW_SECS), self._bucket(now - self._ttl_secs - SKEW_SECS) - 1, -1)]

    def _key(self, kind: str, bucket: int, shard: int) -> str:
        return self._link.key("decisions", kind, bucket, shard, tag=f"d{shard}")

    def _read(
        self, shards: Mapping[int, list[bytes]], buckets: Sequence[int], client: redis.Redis
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        with client.pipeline(transaction=False) as pipe:
            pipeline: Any = pipe  # redis-py leaves what it does not know of untyped
            for shard, ids in shards.items():
                gets = [*_gets(ids)] if self._remember_dropped else []
                for bucket in buckets:
                    pipeline.hmget(self._key("kept", bucket, shard), ids)
                    if gets:
                        pipeline.execute_command("BITFIELD_RO", self._key("dropped", bucket, shard), *gets)
            answers = iter(pipe.execute())
        kept: dict[bytes, bytes] = {}
        dropped: set[bytes] = set()
        for ids in shards.values():
            for _ in buckets:
                kept |= {each: value for each, value in zip(ids, next(answers), strict=True) if value is not None}
                if self._remember_dropped:
                    dropped |= {each for each, found in zip(ids, next(answers), strict=True) if found == _print(each)}
        return kept, dropped - kept.keys()


def _write(commands: Iterable[tuple[str, list[Item]]], client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        pipeline: Any = pipe
        for key, values in commands:
            pipeline.execute_command("EVAL", _WRITE, 1, key, *values)  # neither eval() nor EVALSHA fits a Cluster's
        pipe.execute()


def _by_shard(ids: Iterable[bytes]) -> dict[int, list[bytes]]:
    """By the last byte, which is random in every format of trace ids."""
    shards: defaultdict[int, list[bytes]] = defaultdict(list)
    for each in ids:
        shards[each[-1] % SHARDS].append(each)
    return shards


def _portions(ids: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(ids), most):
        yield ids[start : start + most]


def _slot(trace_id: bytes) -> str:
    """Its place in its shard's table. A trace that takes another's place makes that forgotten, never mistaken."""
    return f"#{int.from_bytes(trace_id[-4:-1], 'big') % SLOTS}"


def _print(trace_id: bytes) -> int:
    """What stands there: never 0, which is what an empty place reads as. One in four billion is another trace's."""
    return int.from_bytes(trace_id[-8:-4], "big") or 1


def _gets(ids: Iterable[bytes]) -> Iterator[str]:
    for each in ids:
        yield from ("GET", "u32", _slot(each))
