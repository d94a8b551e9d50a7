"""How the rulebook follows the store, and how changes get there."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tests.contracts.documents import check_store
from tests.fakes.documents import FakeDocuments
from tests.fakes.meter import FakeMeter
from tss.core import measures
from tss.core.documents import Stored
from tss.core.errors import Away
from tss.core.force import Rulebook
from tss.core.force.changes import Bounds, Change, add, remove, switch
from tss.core.force.document import draft
from tss.core.force.errors import NoSuchRule, RuleConflict
from tss.tasks.forcing import GONE_NAMES, Forcing

BOUNDS = Bounds(60, 600, 500)
POLL_SECS = 5.0
ids = map(str, itertools.count())


def adding(name: str, now: float = 0) -> Change:
    given = {"name": name, "action": "keep", "matchers": [{"on": "name", "op": "eq", "value": "get"}]}
    return add(draft(given), next(ids), BOUNDS, now)


@attrs.define
class Replica:
    book: Rulebook
    forcing: Forcing
    meter: FakeMeter

    @property
    def names(self) -> list[str]:
        return sorted(rule.name for rule in self.book.rules(trio.current_time()))


@asynccontextmanager
async def replica(store: FakeDocuments) -> AsyncIterator[Replica]:
    book, meter = Rulebook(), FakeMeter()
    forcing = Forcing(book, store, meter, trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forcing.run, POLL_SECS)
        yield Replica(book, forcing, meter)
        nursery.cancel_scope.cancel()


async def test_the_fake_keeps_the_contract() -> None:
    store = FakeDocuments()
    await check_store(store, store)


async def test_a_change_on_one_replica_is_known_on_all_at_once(autojump_clock) -> None:
    store = FakeDocuments()
    async with replica(store) as one, replica(store) as other:
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await one.forcing.change(adding("a", began))
        assert one.names == ["a"]
        await trio.testing.wait_all_tasks_blocked()
        assert other.names == ["a"] and trio.current_time() == began


async def test_what_is_not_heard_is_polled(autojump_clock) -> None:
    store = FakeDocuments()
    async with replica(store) as one, replica(store) as other:
        await trio.testing.wait_all_tasks_blocked()
        store.deaf = True
        await one.forcing.change(adding("a", trio.current_time()))
        await trio.sleep(POLL_SECS - 1)
        assert other.names == []
        await trio.sleep(1.1)
        assert other.names == ["a"]


async def test_while_redis_is_away_rules_go_on_until_they_expire_and_changes_are_refused(autojump_clock) -> None:
    store = FakeDocuments()
    async with replica(store) as one:
        await trio.testing.wait_all_tasks_blocked()
        await one.forcing.change(adding("a", trio.current_time()))
        store.away = True
        await trio.sleep(BOUNDS.default_secs - 1)
        assert one.names == ["a"] and one.book.active(trio.current_time()) is not None
        with pytest.raises(Away):
            await one.forcing.change(adding("b"))
        await trio.sleep(2)
        assert one.names == [] and one.book.active(trio.current_time()) is None
        assert one.meter.counted(measures.FORCE_READS, "away") > 5
        store.away = False
        await trio.sleep(POLL_SECS)
        await one.forcing.change(adding("b", trio.current_time()))
        assert one.names == ["b"]


async def test_a_store_that_forgot_has_no_rules(autojump_clock) -> None:
    store = FakeDocuments()
    async with replica(store) as one:
        await trio.testing.wait_all_tasks_blocked()
        await one.forcing.change(adding("a", trio.current_time()))
        store.stored = Stored("", {})
        await trio.sleep(POLL_SECS + 1)
        assert one.names == []


async def test_of_many_changes_at_once_none_is_lost(autojump_clock) -> None:
    store = FakeDocuments()
    async with replica(store) as one, replica(store) as other:
        async with trio.open_nursery() as nursery:
            for place, each in enumerate([one, other] * 4):
                nursery.start_soon(each.forcing.change, adding(f"rule {place}", trio.current_time()))
        await trio.testing.wait_all_tasks_blocked()
        assert one.names == other.names == [f"rule {place}" for place in range(8)]


async def test_who_is_overtaken_for_ever_gives_up(autojump_clock) -> None:
    class Busy(FakeDocuments):
        async def swap(self, version, rules, keep_secs) -> bool:
            return False

    async with replica(Busy()) as one:
        with pytest.raises(RuleConflict):
            await one.forcing.change(adding("a"))


async def test_a_rule_that_cannot_be_read_does_not_count_and_is_left_to_those_who_can(autojump_clock) -> None:
    """A newer version of tss may have written it, during an upgrade; its time passes for us, too."""
    later = json.dumps({"expires": "2970-01-01T00:00:00Z", "percentage": 5}).encode()
    over = json.dumps({"expires": "1970-01-01T00:00:00Z"}).encode()
    store = FakeDocuments()
    store.stored = Stored("x", {"newer": later, "over": over, "broken": b"{"})
    async with replica(store) as one:
        await trio.sleep(1)
        await one.forcing.change(adding("a", trio.current_time()))
        assert one.names == ["a"]
        assert "newer" in store.stored.documents and not {"over", "broken"} & store.stored.documents.keys()
        with pytest.raises(NoSuchRule):
            await one.forcing.change(remove("newer", None))


async def test_what_is_over_leaves_the_store_with_the_next_change(autojump_clock) -> None:
    store = FakeDocuments()
    async with replica(store) as one:
        await one.forcing.change(adding("a", trio.current_time()))
        await trio.sleep(BOUNDS.default_secs)
        await one.forcing.change(adding("b", trio.current_time()))
        assert len(store.stored.documents) == 1


async def test_a_rule_switched_off_is_known_and_forces_nothing(autojump_clock) -> None:
    store = FakeDocuments()
    async with replica(store) as one:
        await one.forcing.change(adding("a", trio.current_time()))
        rule_id = one.book.rules(0)[0].id
        await one.forcing.change(switch(rule_id, enabled=False, revision=1))
        assert one.names == ["a"] and one.book.active(trio.current_time()) is None
        await one.forcing.change(switch(rule_id, enabled=True, revision=2))
        assert one.book.active(trio.current_time()) is not None


async def test_names_in_metrics_do_not_become_ever_more(autojump_clock) -> None:
    store = FakeDocuments()
    async with replica(store) as one:
        for number in range(GONE_NAMES + 10):
            await one.forcing.change(adding(f"rule {number}", trio.current_time()))
            one.meter.count(measures.FORCED, 1, f"rule {number}", "keep")
            await one.forcing.change(remove(one.book.rules(0)[0].id, None))
        await one.forcing.change(adding("last", trio.current_time()))
        shown = {rule for rule, _ in one.meter.by_label(measures.FORCED)}
        assert len(shown) <= GONE_NAMES and f"rule {GONE_NAMES + 9}" in shown


@pytest.mark.parametrize("document", [b"[" * 100_000, b"\xff", b"7", b'{"revision": [1]}'])
async def test_a_document_that_cannot_be_read_counts_for_nothing_and_stays(document: bytes) -> None:
    store = FakeDocuments()
    store.stored = Stored("1", {"foreign": document})
    async with replica(store) as one:
        await one.forcing.change(adding("ours", trio.current_time()))
        assert one.names == ["ours"]


class SlowAnswers(FakeDocuments):
    """Answers a look with what it had when it was asked, some time later."""

    async def read(self) -> Stored:
        found = await super().read()
        await trio.sleep(1)
        return found


async def test_an_answer_from_before_our_own_change_does_not_take_it_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = SlowAnswers()
    async with replica(store) as one:
        await trio.sleep(
            2 + POLL_SECS - 0.5
        )  # half a second before the next look, which asks before the change is stored
        await one.forcing.change(adding("new"))
        assert one.names == ["new"]
        for _ in range(20):
            await trio.sleep(0.1)
            assert one.names == ["new"], "an older answer came later"
