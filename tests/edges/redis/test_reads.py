"""What is read from Redis is somebody else's until it is read: garbage is not known, and ends nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.spans import trace_id
from tests.core.test_parked import GOLDEN_BYTES
from tests.fakes.meter import FakeMeter
from tss.core.errors import Lost
from tss.core.force.document import expiry, stored
from tss.core.force.errors import WrongRule
from tss.core.parked import ParkingCheckpoint, chain, to_frame
from tss.core.shared_decisions import from_bytes, mark_of, reach_of, to_bytes
from tss.core.startposition import StartPosition
from tss.edges.redis.decisions import ANYWHERE, SHARDS, RedisDecisions
from tss.edges.redis.documents import force_rules
from tss.edges.redis.link import RedisLink
from tss.edges.redis.parking import RedisParking
from tss.edges.redis.takeover import ParkedTraces

T = TypeVar("T")
IDS = [trace_id(number) for number in range(3)]

garbage = st.binary(max_size=40) | st.text(max_size=20).map(str.encode)
reaches = garbage | st.builds("{}:{}:{}".format, st.text(max_size=5), *[st.integers() | st.text(max_size=3)] * 2).map(
    str.encode
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@attrs.define
class Client:
    """What redis-py gives back of one pipeline, script or hash."""

    answers: Sequence[Any]

    def pipeline(self, transaction: bool) -> Client:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def hmget(self, *_: object) -> None: ...

    def execute(self) -> Sequence[Any]:
        return self.answers

    def hgetall(self, _key: str) -> Any:
        return self.answers[0]

    def register_script(self, _script: str) -> Callable[[list[str], Sequence[Any]], Any]:
        return lambda _keys, _values: self.answers[0]


@attrs.define
class Link(RedisLink):
    client: Client

    def key(self, *parts: str | int, tag: str = "") -> str:
        return "key"

    async def call(self, work: Callable[[Any], T], *, operation: str = "") -> T:
        return work(self.client)

    def call_now(self, work: Callable[[Any], T], *, operation: str = "") -> T:
        return work(self.client)


def decisions(answers: Sequence[Any]) -> RedisDecisions:
    return RedisDecisions(Link(Client(answers)), 4.0, remember_dropped=False, clock=lambda: 10**9)


BUCKETS = len(decisions([])._live_buckets())


@given(st.lists(st.none() | reaches, min_size=BUCKETS * SHARDS, max_size=BUCKETS * SHARDS))
async def test_how_far_decisions_reach(values: list[bytes | None]) -> None:
    found = await decisions([[value] for value in values]).reach([7])
    assert all(0 < offset <= ANYWHERE for offset in found.values())


async def test_a_reach_that_cannot_be_read_is_no_bound() -> None:
    """A decision may be about any record then: it is looked up."""
    none: list[list[bytes | None]] = [[None]] * (BUCKETS * SHARDS - 1)
    for value in (b"no colons", b"", b"a:b:c", b"\xff", b"a:-1:2", b"a:1:2:3:", b"a:" + b"9" * 40 + b":1"):
        assert await decisions([[value], *none]).reach([7]) == {7: ANYWHERE}, value
    assert await decisions([[b"somebody:3:5"], *none]).reach([7]) == {7: 5}


async def test_law_2_a_reach_of_one_record_is_one() -> None:
    none: list[list[bytes | None]] = [[None]] * (BUCKETS * SHARDS - 1)
    assert await decisions([[b"somebody:1:0"], *none]).reach([7]) == {7: 1}, "of the first record something is decided"


@given(json_values.map(lambda value: json.dumps(value).encode()) | garbage)
def test_decisions(value: bytes) -> None:
    for data in (value, b'[1,["p","inactive",1,null],' + value.strip(b"[]") + b"]"):
        kept = from_bytes(data, mark_of("topic"))
        if kept is not None:
            to_bytes(kept, 1)
            reach_of(kept.covered.items())
            kept.has_delivered(0, 5)


def test_numbers_that_no_broker_has_are_not_known() -> None:
    for text in (b"1e999,0,[],[]", b"0,%d,[],[]" % (1 << 63), b"0,0,[[0,%d]],[]" % (1 << 63), b"-1,0,[],[]"):
        assert from_bytes(b'[1,["p","inactive",1,null],' + text + b"]") is None, text
    for rate in (b"-1", b"NaN", b"2", b"1" + b"0" * 400):
        assert from_bytes(b'[1,["p","inactive",' + rate + b",null],0,0,[],[]]") is None, rate


@given(
    st.lists(
        st.tuples(
            garbage | st.sampled_from(IDS),
            garbage | st.just(GOLDEN_BYTES),
            st.sampled_from([b"", b"0f"]),
            st.sampled_from([b"", b"7", b"50", b"9" * 5000]),
        ),
        max_size=4,
        unique_by=lambda row: row[0],
    )
)
def test_what_is_parked(rows: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    """All of it, or read again from the floor."""
    hashes = RedisParking(Link(Client([[3, [each for row in rows for each in row]]])), 10, 10)
    place = attrs.evolve(StartPosition(50, 50, committed=True), parked=ParkingCheckpoint(5, "token", 1))
    taken = ParkedTraces(hashes, FakeMeter()).take_over({0: place}, lambda: None)[0]
    ours = [summary for id, summary, *_ in rows if len(id) == 16]
    if all(summary == GOLDEN_BYTES for summary in ours):
        assert taken.offset == 50
        assert set(taken.summaries) == {id for id, _, _, last in rows if len(id) == 16 and last != b"7"}
    else:
        assert (taken.offset, taken.summaries) == (5, {})


class Stopping(Exception):
    """The daemon is to stop."""


def test_law_9_a_stop_is_heard_between_two_partitions() -> None:
    """Each may take as long as Redis lets it wait."""
    client = Client([[3, []]] * 3)
    breaths = 0

    def breathe() -> None:
        nonlocal breaths
        breaths += 1
        if breaths == 2:
            raise Stopping

    places = {
        id: attrs.evolve(StartPosition(50, 50, committed=True), parked=ParkingCheckpoint(5, "token", 1))
        for id in range(3)
    }
    with pytest.raises(Stopping):
        ParkedTraces(RedisParking(Link(client), 10, 10), FakeMeter()).take_over(places, breathe)
    assert breaths == 2


@given(st.lists(garbage | garbage.map(lambda data: to_frame(-1, 9, [])[:17] + data), max_size=3), st.booleans())
def test_frames(frames: list[bytes], whole: bool) -> None:
    with suppress(Lost):
        for each in chain([*frames, to_frame(-1, 9, [b"spans"])] if whole else frames, 9):
            each.unpack()


rules: Mapping[str, object] = {
    "id": "1", "name": "n", "action": "keep", "matchers": [{"on": "name", "op": "eq", "value": "x"}],
    "created": "2026-01-01T00:00:00Z", "expires": "2026-01-01T00:00:00Z", "description": "", "enabled": True, "priority": 1,
    "revision": 1,
}  # fmt: skip


@given(st.dictionaries(st.sampled_from([*rules]), json_values, max_size=3) | st.just({"revision": [1]}))
def test_rules(changed: dict[str, object]) -> None:
    assert stored(rules).revision == 1
    with suppress(WrongRule):
        rule = stored({**rules, **changed})
        assert isinstance(rule.revision, int)
    expiry(json.dumps(changed).encode())


@given(st.dictionaries(garbage, garbage, max_size=4))
async def test_the_hash_of_rules(fields: dict[bytes, bytes]) -> None:
    found = await force_rules(Link(Client([fields]))).read()
    assert len(found.documents) <= len(fields)
    for document in found.documents.values():
        expiry(document)
    expiry(b"[" * 100_000)
