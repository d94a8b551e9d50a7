"""Which traces were kept, and why, for all replicas of a group (docs/redis.md says what stands under which key).

Written for every exported batch and read when traces close, so what counts is the number of commands and of bytes: the
decisions of a batch go into few hashes, one for each shard of the trace ids and quarter of the time they are kept.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import redis

from tss.edges.redis.link import RedisLink

SHARDS = 4  # as many nodes of a Cluster share the work, and as many commands a small batch needs
BUCKETS = 4  # in the time a decision is kept: what is kept longer than asked is a quarter of it
SKEW_SECS = 60  # by which replicas' clocks may differ
# A table of 4 bytes a dropped trace: with 4 shards room for 4 million traces a bucket, in 16 MiB.
SLOTS = 1 << 20
# What a script may unpack onto Lua's stack is 8,000 values.
MOST_FIELDS, MOST_SLOTS = 3000, 1500

# How far the decisions reach, then the decisions, then the time to live, all at once: a connection that breaks between
# them leaves no key for ever, and no decision where nothing says that it reaches so far. The last key is that of the
# reach, which is so written, forgotten and lost together with what it is about. A field says who wrote last, how far
# that one's decisions reach, and how far all others'.
_WRITE = """\
local at = 4
while ARGV[at] ~= '' do
  local reach, others = tonumber(ARGV[at + 1]), 0
  local known = redis.call('HGET', KEYS[#KEYS], ARGV[at])
  if known then
    local whose, own, rest = string.match(known, '^(.*):(%d+):(%d+)$')
    others = tonumber(rest or 0)
    own = tonumber(own or 0)
    if whose == ARGV[2] then reach = math.max(reach, own) else others = math.max(others, own) end
  end
  redis.call('HSET', KEYS[#KEYS], ARGV[at], string.format('%s:%.0f:%.0f', ARGV[2], reach, others))
  at = at + 2
end
redis.call(ARGV[3], KEYS[1], unpack(ARGV, at + 1))
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end
return 1"""

ANYWHERE = (1 << 63) - 1  # above every offset
_REACH = re.compile(rb"(.*):([0-9]{1,18}):([0-9]{1,18})", re.DOTALL)

Item = bytes | str | int
Command = tuple[list[str], list[Item]]  # the keys, the values


class RedisDecisions:
    """Raises Away. Values are bytes of the caller's own; ids are 16 bytes."""

    def __init__(
        self, link: RedisLink, ttl_secs: float, *, remember_dropped: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._token = secrets.token_hex(8)  # whose decisions these are: not the replica's, which may have other lives
        self._link = link
        self._remember_dropped = remember_dropped
        # How far what others have written reached when last asked: by bucket and shard, by partition.
        self._reaches: dict[tuple[int, int], dict[int, int]] = {}
        self._ttl_secs = max(1, round(ttl_secs))
        self._bucket_secs = max(1, self._ttl_secs // BUCKETS)
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RedisDecisions for {self._ttl_secs} s in {self._link!r}>"

    async def write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes], reach: Mapping[int, int]) -> None:
        """Remember them, in one pipeline; dropped ones only where that is wanted.

        ``reach``: by partition the offset after the last record that any of them is about.
        """
        reaches: list[Item] = [item for id, offset in reach.items() for item in (_field(id), offset)]
        commands = [*self._kept_commands(kept, reaches)]
        if self._remember_dropped:
            commands += self._dropped_commands(dropped, reaches)
        if commands:
            await self._link.call(partial(_write, commands), operation="write_decisions")

    async def reach(self, partitions: Sequence[int]) -> dict[int, int]:
        """How far what others have written reaches, by partition: nothing that can be read is about an offset at or
        above. A partition that none of it is about is missing."""
        places = [(bucket, shard) for bucket in self._live_buckets() for shard in range(SHARDS)]
        answers = await self._link.call(partial(self._read_reach, partitions, places), operation="read_reach")
        self._reaches = dict(zip(places, answers, strict=True))
        found: dict[int, int] = {}
        for answer in answers:
            found |= {id: offset for id, offset in answer.items() if offset > found.get(id, 0)}
        return found

    async def read(
        self, ids: Sequence[bytes], from_offsets: Mapping[int, int] | None = None
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        """The values of those that were kept, and those that were dropped, in one pipeline. Others are not known.

        With ``from_offsets`` only in what by the last ``reach`` is about records of these partitions from there on.
        """
        places = [
            (bucket, shard, some)
            for shard, some in _by_shard(ids).items()
            for bucket in self._live_buckets()
            if from_offsets is None or self._reaches_above(bucket, shard, from_offsets)
        ]
        if not places:
            return {}, set()
        return await self._link.call(partial(self._read, places), operation="read_decisions")

    def _kept_commands(self, kept: Mapping[bytes, bytes], reaches: Sequence[Item]) -> Iterator[Command]:
        bucket = self._bucket(self._clock())
        for shard, ids in _by_shard(kept).items():
            for some in _portions(ids, MOST_FIELDS):
                fields: list[Item] = [self._kept_secs, self._token, "HSET", *reaches, ""]
                for each in some:
                    fields += each, kept[each]
                yield [self._key("kept", bucket, shard)], fields

    def _dropped_commands(self, dropped: Sequence[bytes], reaches: Sequence[Item]) -> Iterator[Command]:
        bucket = self._bucket(self._clock())
        for shard, ids in _by_shard(dropped).items():
            for some in _portions(ids, MOST_SLOTS):
                values: list[Item] = [self._kept_secs, self._token, "BITFIELD", *reaches, ""]
                for each in some:
                    values += "SET", "u32", _slot(each), _print(each)
                yield [self._key("dropped", bucket, shard), self._key("kept", bucket, shard)], values

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

    def _read_reach(
        self, partitions: Sequence[int], places: Iterable[tuple[int, int]], client: redis.Redis
    ) -> list[dict[int, int]]:
        fields = [_field(each) for each in partitions]
        with client.pipeline(transaction=False) as pipe:
            for bucket, shard in places:
                pipe.hmget(self._key("kept", bucket, shard), fields)
            answers = pipe.execute()
        found = [{id: self._others(value) for id, value in zip(partitions, answer, strict=True)} for answer in answers]
        return [{id: offset for id, offset in each.items() if offset} for each in found]

    def _others(self, value: bytes | None) -> int:
        """What it says is how far others' decisions reach. Where it says nothing that we could have written, they may
        reach anywhere: then more is asked for than has to be."""
        if value is None:
            return 0
        told = _REACH.fullmatch(value)
        if told is None:
            return ANYWHERE
        whose, own, others = told.groups()
        return int(others) if whose == self._token.encode() else max(int(own), int(others))

    def _reaches_above(self, bucket: int, shard: int, offsets: Mapping[int, int]) -> bool:
        reach = self._reaches.get((bucket, shard), {})
        return any(reach.get(id, 0) > offset for id, offset in offsets.items())

    def _read(
        self, places: Sequence[tuple[int, int, list[bytes]]], client: redis.Redis
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        with client.pipeline(transaction=False) as pipe:
            pipeline: Any = pipe  # redis-py leaves what it does not know of untyped
            for bucket, shard, ids in places:
                pipeline.hmget(self._key("kept", bucket, shard), ids)
                if self._remember_dropped:
                    pipeline.execute_command("BITFIELD_RO", self._key("dropped", bucket, shard), *_gets(ids))
            answers = iter(pipe.execute())
        kept: dict[bytes, bytes] = {}
        dropped: set[bytes] = set()
        for _, _, ids in places:
            older = {each: value for each, value in zip(ids, next(answers), strict=True) if value is not None}
            kept = older | kept  # what was written again later says more
            if self._remember_dropped:
                dropped |= {each for each, found in zip(ids, next(answers), strict=True) if found == _print(each)}
        return kept, dropped - kept.keys()


def _write(commands: Iterable[Command], client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        pipeline: Any = pipe
        for keys, values in commands:
            # Neither eval() nor EVALSHA fits a Cluster's.
            pipeline.execute_command("EVAL", _WRITE, len(keys), *keys, *values)
        pipe.execute()


def _field(partition: int) -> str:
    """Never as long as a trace id."""
    return f"@{partition}"


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
