"""What the tasks count on from what stands in Redis, real or fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs
import pytest

from tss.core.errors import Away, Full, Lost
from tss.core.parked import Parcel

A, B, C = bytes([0] * 15 + [1]), bytes([0] * 15 + [2]), bytes([7] * 16)
MAX_BYTES = 20_000


class Decisions(Protocol):
    async def write(self, kept: Mapping[bytes, bytes], dropped: Sequence[bytes], reach: Mapping[int, int]) -> None: ...
    async def reach(self, partitions: Sequence[int]) -> dict[int, int]: ...
    async def read(
        self, ids: Sequence[bytes], from_offsets: Mapping[int, int] | None = None
    ) -> tuple[dict[bytes, bytes], set[bytes]]: ...


class Found(Protocol):
    @property
    def seq(self) -> int: ...
    @property
    def summaries(self) -> Mapping[bytes, bytes]: ...
    @property
    def programs(self) -> Mapping[bytes, str]: ...
    @property
    def ended(self) -> Mapping[bytes, int]: ...


class Parking(Protocol):
    def take_over(self, partition: int, known: tuple[str, int] | None, token: str) -> Found | None: ...
    async def park(self, partition: int, token: str, seq: int, parcels: Sequence[Parcel], unheard: int = 0) -> int: ...
    async def fetch(self, partition: int, token: str, ids: Sequence[bytes]) -> dict[bytes, list[bytes]]: ...
    async def tell(self, partition: int, token: str, ends: Mapping[bytes, int]) -> None: ...
    async def remove(self, partition: int, token: str, ids: Sequence[bytes]) -> None: ...


@attrs.frozen
class World:
    """Both, over one Redis; parking has room for MAX_BYTES a partition."""

    decisions: Decisions
    silent: Decisions  # another replica's, that is not to remember dropped traces
    parking: Parking
    flush: Callable[[], None]
    fill: Callable[[], None]  # from here it takes no writes,
    go_away: Callable[[], None]  # and from here it cannot be reached


async def check_redis(world: World) -> None:
    """All clauses, one after the other. Raises AssertionError."""
    for clause in (*_DECISIONS, *_PARKING):
        await clause(world)
        world.flush()
    await _full_and_away(world)


def _ids(count: int) -> list[bytes]:
    """All over the shards, the slots and the fingerprints."""
    return [
        (number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)).to_bytes(16, "big") for number in range(1, count)
    ]


async def _remembers(world: World) -> None:
    await world.decisions.write({A: b"a", B: b""}, [C], {})
    assert await world.decisions.read([A, B, C, bytes(16)]) == ({A: b"a", B: b""}, {C})
    await world.decisions.write({A: b"\x00\xff"}, [], {})
    assert await world.decisions.read([A]) == ({A: b"\x00\xff"}, set())


async def _kept_beats_dropped(world: World) -> None:
    await world.decisions.write({}, [A], {})
    await world.decisions.write({A: b"a"}, [], {})
    assert await world.decisions.read([A]) == ({A: b"a"}, set())


async def _large_batches(world: World) -> None:
    ids = _ids(36_000)  # a shard's part is more than a script may unpack
    kept = {each: each[:4] for each in ids[:30_000]}
    await world.decisions.write(kept, ids[30_000:], {})
    found, dropped = await world.decisions.read(ids)
    assert found == kept and set(ids[30_000:]) == dropped


async def _nothing_to_do(world: World) -> None:
    await world.decisions.write({}, [], {})
    assert await world.decisions.read([]) == ({}, set())


async def _flushed_decisions(world: World) -> None:
    await world.decisions.write({A: b"a"}, [B], {})
    world.flush()
    assert await world.decisions.read([A, B]) == ({}, set())


async def _dropped_only_on_wish(world: World) -> None:
    await world.silent.write({A: b"a"}, [B], {})
    assert await world.silent.read([A, B]) == ({A: b"a"}, set())
    assert await world.decisions.read([B]) == ({}, set())


async def _says_how_far_the_decisions_of_others_reach(world: World) -> None:
    ours, others = world.decisions, world.silent
    assert await ours.reach([0, 1, 2]) == {}
    await others.write({A: b"a", B: b"b"}, [], {0: 10, 1: 1 << 53})
    assert await ours.reach([0, 1, 2]) == {0: 10, 1: 1 << 53}
    assert await ours.reach([2]) == {}
    assert await others.reach([0, 1]) == {}, "what one decided oneself is no news"
    await others.write({C: b"c"}, [], {0: 7})
    assert await ours.reach([0]) == {0: 10}, "it never goes back"
    await ours.write({A: b"a"}, [], {0: 30, 2: 3})
    assert await ours.reach([0, 1, 2]) == {0: 10, 1: 1 << 53}
    assert await others.reach([0, 1, 2]) == {0: 30, 2: 3}
    await others.write({A: b"a"}, [], {0: 20})
    assert (await ours.reach([0]))[0] >= 20, "the one before did not know yet that it was"
    assert (await others.reach([0]))[0] >= 30


async def _dropped_ones_reach_too(world: World) -> None:
    await world.decisions.write({}, [A], {3: 4})
    assert await world.silent.reach([3]) == {3: 4}
    world.flush()
    assert await world.silent.reach([3]) == {}


async def _finds_what_reaches_so_far(world: World) -> None:
    """By the trace's partition: what is only about lower offsets need not be looked at, all else must be."""
    ours, others = world.decisions, world.silent
    await others.write({A: b"a"}, [], {0: 10})
    assert await ours.reach([0, 1]) == {0: 10}
    for offsets in ({0: 9}, {0: 0}, {0: 9, 1: 5}):
        assert await ours.read([A, B], offsets) == ({A: b"a"}, set()), offsets
    for offsets in ({0: 10}, {1: 0}, {}):
        assert await ours.read([A, B], offsets) == ({}, set()), offsets
    assert await ours.read([A, B]) == ({A: b"a"}, set())
    await others.write({B: b"b"}, [], {1: 1})
    assert await ours.read([B]) == ({B: b"b"}, set())
    await ours.reach([0, 1])
    assert await ours.read([B], {1: 0}) == ({B: b"b"}, set())


async def _parks_and_gives_back(world: World) -> None:
    parking = world.parking
    assert parking.take_over(0, None, "t") is None
    assert await parking.park(0, "t", 0, [Parcel(A, b"s1", b"f1", "0123"), Parcel(B, b"", b"\x00", "ab")]) == 1
    assert await parking.park(0, "t", 1, [Parcel(A, b"s2", b"f2", "89abcdef")]) == 2
    assert await parking.fetch(0, "t", [A, B, C]) == {A: [b"f1", b"f2"], B: [b"\x00"]}
    assert await parking.fetch(0, "t", []) == {}
    found = parking.take_over(0, ("t", 2), "u")
    assert found is not None and (found.seq, dict(found.summaries)) == (2, {A: b"s2", B: b""})
    assert dict(found.programs) == {A: "89abcdef", B: "ab"}
    assert await parking.park(0, "u", 2, [Parcel(B, b"", b"")]) == 3
    assert (found := parking.take_over(0, ("u", 3), "u")) is not None and dict(found.programs) == {A: "89abcdef"}
    await parking.remove(0, "u", [A, C])
    assert await parking.fetch(0, "u", [A, B]) == {B: [b"\x00", b""]}
    found = parking.take_over(0, ("u", 3), "v")
    assert found is not None and (dict(found.summaries), dict(found.programs)) == ({B: b""}, {})


async def _says_what_has_ended_to_who_resumes_at_a_commit_of_the_one_who_knew(world: World) -> None:
    parking = world.parking
    parking.take_over(0, None, "a")
    await parking.park(0, "a", 0, [Parcel(A, b"s", b"f", "ab"), Parcel(B, b"s", b"f")])
    await parking.tell(0, "a", {A: 7, B: 8, C: 9})
    await parking.park(0, "a", 1, [Parcel(B, b"s", b"g")])  # another trace with this id, parked since
    for token in ("b", "c"):
        found = parking.take_over(0, ("a", 2), token)
        assert found is not None and dict(found.ended) == {A: 7}, token
        assert dict(found.summaries) == {A: b"s", B: b"s"}
    found = parking.take_over(0, ("c", 2), "d")
    assert found is not None and dict(found.ended) == {}, "c went on from before the end, and committed that"
    await parking.tell(0, "d", {A: 12})
    await parking.remove(0, "d", [A])
    await parking.park(0, "d", 2, [Parcel(A, b"s", b"f")])
    found = parking.take_over(0, ("d", 3), "e")
    assert found is not None and dict(found.ended) == {}, "removed, and parked anew"


async def _what_comes_too_late_is_not_done(world: World) -> None:
    """A call whose answer nobody waited for, done after the one made in its place: its summary would be the older."""
    parking = world.parking
    parking.take_over(0, None, "t")
    assert await parking.park(0, "t", 0, [Parcel(A, b"newer", b"f2")], 1) == 2
    with pytest.raises(Lost):
        await parking.park(0, "t", 0, [Parcel(A, b"older", b"f1")])
    assert await parking.park(0, "t", 2, [Parcel(B, b"s", b"f")]) == 3
    assert await parking.park(0, "t", 2, [Parcel(B, b"s", b"f")], 1) == 4, "one that was done all the same is no harm"
    found = parking.take_over(0, ("t", 4), "u")
    assert found is not None and found.summaries[A] == b"newer"
    assert await parking.fetch(0, "u", [A, B]) == {A: [b"f2"], B: [b"f", b"f"]}


async def _none_of_the_unheard_is_done_after_the_next(world: World) -> None:
    """However many there were, in whichever order they come; nor is one done twice, which a network may bring about."""
    for unheard in (0, 1, 2, 3):
        partition, parking = 10 + unheard, world.parking
        parking.take_over(partition, None, "t")
        seq = await parking.park(partition, "t", 0, [Parcel(A, b"heard", b"f0")])
        assert await parking.park(partition, "t", seq, [Parcel(A, b"newest", b"f")], unheard) == seq + unheard + 1
        for before in (*range(unheard), unheard):  # the last is the call itself, once more
            with pytest.raises(Lost):
                await parking.park(partition, "t", seq, [Parcel(A, b"older", b"g")], before)
        assert await parking.fetch(partition, "t", [A]) == {A: [b"f0", b"f"]}
        found = parking.take_over(partition, ("t", seq + unheard + 1), "u")
        assert found is not None and dict(found.summaries) == {A: b"newest"}


async def _the_unheard_may_have_been_done(world: World) -> None:
    """Any of them, and the next goes on from there."""
    for done in (0, 1, 2):
        partition, parking = 20 + done, world.parking
        parking.take_over(partition, None, "t")
        for before in range(done):
            assert await parking.park(partition, "t", 0, [Parcel(A, b"s", b"%d" % before)], before) == before + 1
        assert await parking.park(partition, "t", 0, [Parcel(A, b"s", b"f")], 2) == 3
        assert await parking.fetch(partition, "t", [A]) == {A: [*(b"%d" % each for each in range(done)), b"f"]}


async def _partitions_are_apart(world: World) -> None:
    world.parking.take_over(1, None, "one")
    world.parking.take_over(2, None, "two")
    await world.parking.park(1, "one", 0, [Parcel(A, b"s", b"f")])
    assert await world.parking.fetch(2, "two", [A]) == {}


async def _only_the_owner_may(world: World) -> None:
    parking = world.parking
    for partition in (0, 1):  # taken over, and never there at all
        if not partition:
            parking.take_over(0, None, "old")
            await parking.park(0, "old", 0, [Parcel(A, b"s", b"f")])
            assert parking.take_over(0, ("old", 1), "new") is not None
        with pytest.raises(Lost):
            await parking.park(partition, "old", 1, [Parcel(A, b"s", b"g")])
        with pytest.raises(Lost):
            await parking.fetch(partition, "old", [A])
        with pytest.raises(Lost):
            await parking.remove(partition, "old", [A])
        with pytest.raises(Lost):
            await parking.tell(partition, "old", {A: 7})
    assert await parking.fetch(0, "new", [A]) == {A: [b"f"]}


async def _takes_over_what_was_committed_alone(world: World) -> None:
    """The committed token, or the one whose place an owner took that ended before its first commit; and enough seq."""
    parking = world.parking
    parking.take_over(0, None, "a")
    await parking.park(0, "a", 0, [Parcel(A, b"s", b"f")])
    for token in ("b", "c", "d"):  # none of them commits
        found = parking.take_over(0, ("a", 1), token)
        assert found is not None and found.seq == 1, token
    assert await parking.park(0, "d", 1, [Parcel(B, b"s", b"f")]) == 2
    assert (found := parking.take_over(0, ("d", 2), "e")) is not None and found.seq == 2
    assert parking.take_over(0, ("e", 3), "f") is None, "less than was committed"
    assert await parking.fetch(0, "f", [A, B]) == {}, "it begins anew"
    assert await parking.park(0, "f", 0, [Parcel(A, b"s", b"f")]) == 1
    assert parking.take_over(0, ("d", 1), "g") is None, "a token that is long gone"
    assert await parking.park(0, "g", 0, [Parcel(A, b"s", b"f")]) == 1
    assert parking.take_over(0, None, "h") is None
    assert await parking.fetch(0, "h", [A]) == {}
    assert parking.take_over(0, ("", 0), "i") is None, "no token fits none"


async def _notices_what_is_missing(world: World) -> None:
    world.parking.take_over(0, None, "t")
    with pytest.raises(Lost):
        await world.parking.park(0, "t", 1, [Parcel(A, b"s", b"f")])
    world.flush()
    with pytest.raises(Lost):
        await world.parking.park(0, "t", 0, [Parcel(A, b"s", b"f")])
    assert world.parking.take_over(0, ("t", 0), "u") is None


async def _many(world: World) -> None:
    ids = _ids(100)
    world.parking.take_over(5, None, "t")
    seq = 0
    for start in range(0, 90, 30):
        seq = await world.parking.park(5, "t", seq, [Parcel(each, b"", b"") for each in ids[start : start + 30]])
    found = world.parking.take_over(5, ("t", seq), "u")
    assert found is not None and set(found.summaries) == set(ids[:90])


async def _is_bounded(world: World) -> None:
    """All or nothing; and what is removed or replaced makes room to the byte."""
    parking = world.parking
    parking.take_over(0, None, "t")
    large = Parcel(A, b"s" * 5000, b"f" * (MAX_BYTES - 5000 - 3 * 64))
    with pytest.raises(Full):
        await parking.park(0, "t", 0, [attrs.evolve(large, frame=large.frame + b"f")])
    with pytest.raises(Full):
        await parking.park(0, "t", 0, [large, Parcel(B, b"", b"")])
    assert await parking.fetch(0, "t", [A, B]) == {}
    seq = 0
    for _ in range(3):
        seq = await parking.park(0, "t", seq, [large])
        with pytest.raises(Full):
            await parking.park(0, "t", seq, [Parcel(A, large.summary, b"")])
        seq = await parking.park(0, "t", seq, [Parcel(A, b"s" * (5000 - 64), b"")])
        with pytest.raises(Full):
            await parking.park(0, "t", seq, [Parcel(B, b"", b"")])
        await parking.remove(0, "t", [A])


_DECISIONS = (
    _remembers, _kept_beats_dropped, _large_batches, _nothing_to_do, _flushed_decisions, _dropped_only_on_wish,
    _says_how_far_the_decisions_of_others_reach, _dropped_ones_reach_too, _finds_what_reaches_so_far,
)  # fmt: skip
_PARKING = (
    _parks_and_gives_back, _what_comes_too_late_is_not_done, _none_of_the_unheard_is_done_after_the_next,
    _the_unheard_may_have_been_done, _partitions_are_apart, _only_the_owner_may,
    _says_what_has_ended_to_who_resumes_at_a_commit_of_the_one_who_knew,
    _takes_over_what_was_committed_alone, _notices_what_is_missing, _many, _is_bounded,
)  # fmt: skip


async def _full_and_away(world: World) -> None:
    await world.decisions.write({A: b"a"}, [], {})
    world.parking.take_over(0, None, "t")
    await world.parking.park(0, "t", 0, [Parcel(A, b"s", b"f")])
    world.fill()
    with pytest.raises(Away):
        await world.decisions.write({B: b"b"}, [], {})
    with pytest.raises(Away):
        await world.parking.park(0, "t", 1, [Parcel(B, b"s", b"f")])
    assert (await world.decisions.read([A]))[0] == {A: b"a"}
    assert await world.parking.fetch(0, "t", [A]) == {A: [b"f"]}
    await world.parking.remove(0, "t", [A])
    assert await world.parking.fetch(0, "t", [A]) == {}
    world.go_away()
    with pytest.raises(Away):
        await world.decisions.write({A: b"a"}, [], {})
    with pytest.raises(Away):
        await world.decisions.read([A])
    with pytest.raises(Away):
        world.parking.take_over(0, ("t", 0), "u")
    for refused in (world.parking.fetch(0, "t", [A]), world.parking.remove(0, "t", [A])):
        with pytest.raises(Away):
            await refused
