"""Parked traces in Redis: one hash for each input partition (docs/redis.md describes its fields).

Every write is a script on one key. So it is atomic, works on a Cluster, and is refused after another owner has taken the
partition over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import redis

from tss.core.errors import Full, Lost
from tss.core.parked import Parcel
from tss.edges.redis.link import RedisLink

TRACE_ID_BYTES = 16
OFFSET_DIGITS = 19
FIELDS_AT_A_TIME = 5000  # a script may unpack 8,000 values onto Lua's stack

# A trace has the fields s<id> (its summary), f<id><number> (a frame), and n<id>: the number of its frames, its bytes, and
# the fingerprint of the program that made the summary's facts. Old versions write n<id> without this third part, and ignore
# it; later ones write there which values of the spans they looked up.
# e<id> is written when the trace has ended, before the commit that says so: its last offset, the number of its frames then,
# and the owner's token. It holds while the number is still the same, for an owner that resumes at a commit of this token: only
# that owner knew, when it committed, that the trace had ended. These fields do not count for the limit: they live for seconds.
# Redis needs about this much memory for each field, beside its value. It counts, since the limit is one of memory.
FIELD_BYTES = 64

_TAKE_OVER = f"""\
local key, token, ttl, known, known_seq = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local found = redis.call('HMGET', key, 'token', 'prev', 'seq')
local seq = tonumber(found[3])
if known == '' or not seq or (found[1] ~= known and found[2] ~= known) or seq < known_seq then
  redis.call('DEL', key)
  redis.call('HSET', key, 'token', token, 'prev', '', 'seq', 0, 'bytes', 0)
  redis.call('EXPIRE', key, ttl)
  return false
end
-- prev is the token in the last commit: if this owner ends before its first commit, the next one knows no newer token
redis.call('HSET', key, 'token', token, 'prev', known)
redis.call('EXPIRE', key, ttl)
local summaries, wanted, numbers, ends = {{}}, {{}}, {{}}, {{}}
local function take()
  if #wanted == 0 then return end
  local counts = redis.call('HMGET', key, unpack(numbers))
  local ended = redis.call('HMGET', key, unpack(ends))
  for place, summary in ipairs(redis.call('HMGET', key, unpack(wanted))) do
    table.insert(summaries, string.sub(wanted[place], 2))
    table.insert(summaries, summary)
    table.insert(summaries, string.match(counts[place] or '', '^%d+ %d+ (%x+)$') or '')
    local offset, count, owner = string.match(ended[place] or '', '^(%d+) (%d+) (%S+)$')
    local holds = owner == known and count == string.match(counts[place] or '', '^%d+')
    table.insert(summaries, holds and offset or '')
  end
  wanted, numbers, ends = {{}}, {{}}, {{}}
end
for _, field in ipairs(redis.call('HKEYS', key)) do
  if string.byte(field) == 115 and field ~= 'seq' then
    table.insert(wanted, field)
    table.insert(numbers, 'n' .. string.sub(field, 2))
    table.insert(ends, 'e' .. string.sub(field, 2))
    if #wanted == {FIELDS_AT_A_TIME} then take() end
  end
end
take()
return {{seq, summaries}}"""

_PARK = f"""\
local key, token, ttl, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local known_seq, new_seq = tonumber(ARGV[4]), tonumber(ARGV[5])
local found = redis.call('HMGET', key, 'token', 'bytes', 'seq')
-- seq < known_seq: a replica that became the master may lack writes that the old master had confirmed
-- seq >= new_seq: a call that timed out may arrive after the call that replaced it, which has newer summaries
local seq, bytes = tonumber(found[3]), tonumber(found[2])
if found[1] ~= token or not seq or not bytes or seq < known_seq or seq >= new_seq then
  return redis.error_reply('LOST')
end
local plan, counts, sizes, summaries = {{}}, {{}}, {{}}, {{}}
for at = 6, #ARGV, 4 do
  local id, summary, frame, program = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if not counts[id] then
    local count, size = string.match(redis.call('HGET', key, 'n' .. id) or '', '(%d+) (%d+)')
    counts[id], sizes[id] = tonumber(count or 0), tonumber(size or 0)
    summaries[id] = redis.call('HSTRLEN', key, 's' .. id)
  end
  local more = #summary - summaries[id] + #frame + {FIELD_BYTES}
  if counts[id] == 0 then more = more + 2 * {FIELD_BYTES} end
  summaries[id], counts[id], sizes[id], bytes = #summary, counts[id] + 1, sizes[id] + more, bytes + more
  for _, value in ipairs({{'f' .. id .. counts[id], frame, 's' .. id, summary}}) do table.insert(plan, value) end
  table.insert(plan, 'n' .. id)
  table.insert(plan, counts[id] .. ' ' .. sizes[id] .. (program == '' and '' or ' ' .. program))
end
if bytes > limit then return redis.error_reply('FULL') end
for at = 1, #plan, 2 do redis.call('HSET', key, plan[at], plan[at + 1]) end
redis.call('HSET', key, 'bytes', bytes, 'seq', new_seq)
redis.call('EXPIRE', key, ttl)
return new_seq"""

_FETCH = """\
local key = KEYS[1]
if redis.call('HGET', key, 'token') ~= ARGV[1] then return redis.error_reply('LOST') end
local all = {}
for at = 2, #ARGV do
  local frames = {}
  local count = string.match(redis.call('HGET', key, 'n' .. ARGV[at]) or '0', '%d+')
  for number = 1, math.min(tonumber(count or 0), redis.call('HLEN', key)) do
    table.insert(frames, redis.call('HGET', key, 'f' .. ARGV[at] .. number))
  end
  table.insert(all, frames)
end
return all"""

_REMOVE = """\
local key = KEYS[1]
if redis.call('HGET', key, 'token') ~= ARGV[1] then return redis.error_reply('LOST') end
for at = 3, #ARGV do
  local id = ARGV[at]
  local count, size = string.match(redis.call('HGET', key, 'n' .. id) or '', '(%d+) (%d+)')
  if count then
    for number = 1, math.min(tonumber(count), redis.call('HLEN', key)) do redis.call('HDEL', key, 'f' .. id .. number) end
    redis.call('HDEL', key, 's' .. id, 'n' .. id, 'e' .. id)
    redis.call('HINCRBY', key, 'bytes', -tonumber(size))
  end
end
redis.call('EXPIRE', key, ARGV[2])
return 1"""

_TELL = """\
local key = KEYS[1]
if redis.call('HGET', key, 'token') ~= ARGV[1] then return redis.error_reply('LOST') end
for at = 3, #ARGV, 2 do
  local count = string.match(redis.call('HGET', key, 'n' .. ARGV[at]) or '', '^%d+')
  if count then redis.call('HSET', key, 'e' .. ARGV[at], ARGV[at + 1] .. ' ' .. count .. ' ' .. ARGV[1]) end
end
redis.call('EXPIRE', key, ARGV[2])
return 1"""


@attrs.frozen
class TakenOver:
    """The traces in a partition's hash: all that were parked up to ``seq``, and perhaps more."""

    seq: int
    summaries: dict[bytes, bytes] = attrs.field(repr=lambda found: str(len(found)))  # by trace id
    programs: dict[bytes, str] = attrs.field(
        factory=dict, repr=False
    )  # by trace id, in hexadecimal digits; missing where it is not known
    ended: dict[bytes, int] = attrs.field(factory=dict, repr=False)  # see `RedisParking.tell`


class RedisParking:
    """Parks traces by partition. Each assignment of a partition has its own token, which is never empty.

    Raises Away; Lost when the hash is gone, has another token, or lacks writes; and Full."""

    def __init__(self, link: RedisLink, ttl_secs: float, max_bytes: int) -> None:
        self._link = link
        self._ttl_secs = max(1, round(ttl_secs))
        self._max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"<RedisParking of {self._max_bytes} bytes a partition in {self._link!r}>"

    def take_over(self, partition: int, known: tuple[str, int] | None, token: str) -> TakenOver | None:
        """Give the partition's hash a new token. Blocks, for the thread of the group member.

        ``known``: the token and seq from the committed offset. None when the hash lacks anything that was parked by
        then: the hash is cleared.
        """
        old, seq = known or ("", 0)
        work = partial(_run, _TAKE_OVER, self._key(partition), (token, self._ttl_secs, old, seq))
        found = self._link.call_now(work, operation="take_over")
        if found is None:
            return None
        seq, flat = found
        taken = TakenOver(seq, {})
        for trace_id, summary, program, last in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True):
            if len(trace_id) != TRACE_ID_BYTES:
                continue  # not a field of ours
            taken.summaries[trace_id] = summary
            if program:
                taken.programs[trace_id] = program.decode("ascii")
            if last.isdigit() and len(last) <= OFFSET_DIGITS:
                taken.ended[trace_id] = int(last)
        return taken

    async def park(self, partition: int, token: str, seq: int, parcels: Sequence[Parcel], unheard: int = 0) -> int:
        """Park all of these or none; returns the new seq.

        After Away it is not known whether they are parked, and a frame that is parked again may be there twice. The next
        call gives the number of such calls as ``unheard``: after it Redis refuses them, however late they arrive.
        """
        values: list[Any] = [token, self._ttl_secs, self._max_bytes, seq, seq + unheard + 1]
        for each in parcels:
            values += each.trace_id, each.summary, each.frame, each.program
        return int(await self._call(_PARK, partition, values, "park"))

    async def fetch(self, partition: int, token: str, ids: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        """The frames of these traces, in the order of their parking. Traces without frames are left out."""
        if not ids:
            return {}
        found = await self._call(_FETCH, partition, (token, *ids), "fetch")
        return {each: frames for each, frames in zip(ids, found, strict=True) if frames}

    async def tell(self, partition: int, token: str, ends: Mapping[bytes, int]) -> None:
        """These traces have ended: by trace id, the last offset. Unknown ids are ignored. An owner that takes over with this token
        finds them in ``TakenOver.ended``. Where its offset is above that of a trace, the trace is decided."""
        values: list[Any] = [token, self._ttl_secs]
        for trace_id, last_offset in ends.items():
            values += trace_id, last_offset
        await self._call(_TELL, partition, values, "tell")

    async def remove(self, partition: int, token: str, ids: Sequence[bytes]) -> None:
        """Remove these traces; unknown ids are ignored. Without ids it only renews the hash's time to live."""
        await self._call(_REMOVE, partition, (token, self._ttl_secs, *ids), "remove")

    async def _call(self, script: str, partition: int, values: Sequence[Any], operation: str) -> Any:
        return await self._link.call(partial(_run, script, self._key(partition), values), operation=operation)

    def _key(self, partition: int) -> str:
        return self._link.key("parked", partition, tag=f"p{partition}")


def _run(script: str, key: str, values: Sequence[Any], client: redis.Redis) -> Any:
    try:
        # Called by its SHA. redis-py sends the script again when Redis has lost it (a restart, a failover).
        return client.register_script(script)([key], values)
    except redis.ResponseError as error:
        said = str(error)
        if said.startswith("LOST"):
            raise Lost(f"the traces parked under {key} are gone, or another replica has taken them over") from error
        if said.startswith("FULL"):
            raise Full(f"{key} has reached redis.maxParkedBytes") from error
        raise
