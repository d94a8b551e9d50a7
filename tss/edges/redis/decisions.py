"""Decisions shared by all replicas of a group (docs/redis.md describes the keys).

Decisions are written for every exported batch and read when traces close, so the number of commands and bytes matters.
The decisions of a batch go into a few hashes: one for each shard of the trace ids and each quarter of their time to live.
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

SHARDS = 4  # this many nodes of a Cluster share the load, and a small batch needs this many commands
BUCKETS = 4  # in a decision's time to live: it is kept longer by a quarter at most
SKEW_SECS = 60  # replicas' clocks may differ by this much
# Slots in a table of dropped traces, 4 bytes each: with 4 shards 4 million traces a bucket, in 16 MiB.
SLOTS = 1 << 20
# A script may unpack 8,000 values onto Lua's stack.
MOST_FIELDS, MOST_SLOTS = 3000, 1500

# One script writes how far the decisions reach, then the decisions, then the time to live. So a broken connection leaves
# no key without a time to live, and no decision beyond the reach. The last key has the reach: it is written, expires and
# is lost together with these decisions. A field of the reach names the last writer, and has how far the decisions of this
# writer reach, and those of all others.
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

ANYWHERE = (1 << 63) - 1  # a reach above every offset
_REACH = re.compile(rb"(.*):([0-9]{1,18}):([0-9]{1,18})", re.DOTALL)

Item = bytes | str | int
Command = tuple[list[str], list[Item]]  # the keys, the values


class RedisDecisions:
    """Decisions by trace id (16 bytes), as bytes in the caller's own form. Raises Away."""

    def __init__(
        self, link: RedisLink, ttl_secs: float, *, remember_dropped: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._token = secrets.token_hex(
            8
        )  # names the writer; not the replica's name, which its next process would have too
        self._link = link
        self._remember_dropped = remember_dropped
        # How far other writers' decisions reached at the last question: by bucket and shard, by partition.
        self._reaches: dict[tuple[int, int], dict[int, int]] = {}
        self._ttl_secs = max(1, round(ttl_secs))
        self._bucket_secs = max(1, self._ttl_secs // BUCKETS)
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RedisDecisions for {self._ttl_secs} s in {self._link!r}>"

    async def write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes], reach: Mapping[int, int]) -> None:
        """Write decisions in one pipeline; dropped traces only with ``remember_dropped``.

        ``reach``: by partition the offset after the last record of any of these traces.
        """
        reaches: list[Item] = [item for id, offset in reach.items() for item in (_field(id), offset)]
        commands = [*self._kept_commands(kept, reaches)]
        if self._remember_dropped:
            commands += self._dropped_commands(dropped, reaches)
        if commands:
            await self._link.call(partial(_write, commands), operation="write_decisions")

    async def reach(self, partitions: Sequence[int]) -> dict[int, int]:
        """How far other writers' decisions reach, by partition: none of them is about a record at this offset or above.
        A partition without such decisions is missing."""
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
        """The decisions of kept traces, and the ids of dropped ones, in one pipeline. Unknown ids are in neither.

        With ``from_offsets``, hashes are left out whose decisions ended below these offsets at the last `reach`.
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
        # The newest first: most traces that are asked for were decided a moment ago.
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
        """How far other writers' decisions reach, by a field's value. With a value that we did not write they may reach
        anywhere: then more decisions are read than necessary."""
        if value is None:
            return 0
        parts = _REACH.fullmatch(value)
        if parts is None:
            return ANYWHERE
        whose, own, others = parts.groups()
        return int(others) if whose == self._token.encode() else max(int(own), int(others))

    def _reaches_above(self, bucket: int, shard: int, offsets: Mapping[int, int]) -> bool:
        reach = self._reaches.get((bucket, shard), {})
        return any(reach.get(id, 0) > offset for id, offset in offsets.items())

    def _read(
        self, places: Sequence[tuple[int, int, list[bytes]]], client: redis.Redis
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        with client.pipeline(transaction=False) as pipe:
            pipeline: Any = pipe  # redis-py has no types for this
            for bucket, shard, ids in places:
                pipeline.hmget(self._key("kept", bucket, shard), ids)
                if self._remember_dropped:
                    pipeline.execute_command("BITFIELD_RO", self._key("dropped", bucket, shard), *_gets(ids))
            answers = iter(pipe.execute())
        kept: dict[bytes, bytes] = {}
        dropped: set[bytes] = set()
        for _, _, ids in places:
            older = {each: value for each, value in zip(ids, next(answers), strict=True) if value is not None}
            kept = older | kept  # the newest of several decisions counts
            if self._remember_dropped:
                dropped |= {each for each, found in zip(ids, next(answers), strict=True) if found == _print(each)}
        return kept, dropped - kept.keys()


def _write(commands: Iterable[Command], client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        pipeline: Any = pipe
        for keys, values in commands:
            # A pipeline of a Cluster has neither eval() nor EVALSHA.
            pipeline.execute_command("EVAL", _WRITE, len(keys), *keys, *values)
        pipe.execute()


def _field(partition: int) -> str:
    """The field of a partition's reach. It is never as long as a trace id, which is the field of a decision."""
    return f"@{partition}"


def _by_shard(ids: Iterable[bytes]) -> dict[int, list[bytes]]:
    """By shard, from the last byte of the id: it is random in every format of trace ids."""
    shards: defaultdict[int, list[bytes]] = defaultdict(list)
    for each in ids:
        shards[each[-1] % SHARDS].append(each)
    return shards


def _portions(ids: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(ids), most):
        yield ids[start : start + most]


def _slot(trace_id: bytes) -> str:
    """A trace's slot in its shard's table. Another trace in the same slot makes it forgotten, but not mistaken."""
    return f"#{int.from_bytes(trace_id[-4:-1], 'big') % SLOTS}"


def _print(trace_id: bytes) -> int:
    """The value in the slot, by which the trace is recognised. Never 0, which is the value of an empty slot. One in four
    billion other traces has the same."""
    return int.from_bytes(trace_id[-8:-4], "big") or 1


def _gets(ids: Iterable[bytes]) -> Iterator[str]:
    for each in ids:
        yield from ("GET", "u32", _slot(each))
