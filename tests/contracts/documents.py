"""What a store of shared documents promises, whichever it is."""

from __future__ import annotations

import trio

from tss.core.documents import Stored
from tss.state.documents import DocumentStore, Heard

KEEP_SECS = 60.0


async def check_store(one: DocumentStore, other: DocumentStore) -> None:
    """Two replicas of one group, on an empty store."""
    await check_that_one_reads_what_the_other_wrote(one, other)
    await check_that_only_one_of_two_changes_counts(one, other)
    await check_that_a_change_is_heard(one, other)


async def check_that_one_reads_what_the_other_wrote(one: DocumentStore, other: DocumentStore) -> None:
    assert await other.read() == Stored("", {})
    rules = {"a": b"\x00\xff", "b": b"2", "version": b"a rule may have any id"}
    assert await one.swap("", rules, KEEP_SECS)
    found = await other.read()
    assert found.documents == rules and found.version
    assert await other.swap(found.version, {"b": b"3"}, KEEP_SECS)
    assert (await one.read()).documents == {"b": b"3"}


async def check_that_only_one_of_two_changes_counts(one: DocumentStore, other: DocumentStore) -> None:
    before = await one.read()
    swapped = []

    async def swap(store: DocumentStore, rules: dict[str, bytes]) -> None:
        swapped.append(await store.swap(before.version, rules, KEEP_SECS))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(swap, one, {"a": b"one"})
        nursery.start_soon(swap, other, {"a": b"other"})
    assert sorted(swapped) == [False, True]
    after = await one.read()
    assert after.version != before.version and after.documents["a"] in (b"one", b"other")
    assert await one.swap(after.version, {}, KEEP_SECS)
    emptied = await one.read()
    assert emptied.documents == {} and emptied.version not in ("", after.version, before.version)


async def check_that_a_change_is_heard(one: DocumentStore, other: DocumentStore) -> None:
    heard = Heard()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.listen, heard.set)
        with trio.fail_after(5):
            await heard.wait()  # the beginning: what was before may have been missed
            found = await one.read()
            assert await one.swap(found.version, {"c": b"1"}, KEEP_SECS)
            await heard.wait()
        nursery.cancel_scope.cancel()
