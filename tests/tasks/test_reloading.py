"""Changed policies: who wins, what all replicas have in the end, and what stays where a change is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes.documents import FakeDocuments
from tests.fakes.meter import FakeMeter
from tests.fakes.policies import FakeFile, FakeRulesets, FakeTexts, made, ruleset
from tss.core.combining import Sampler
from tss.core.errors import Away
from tss.core.health import Health, State
from tss.core.idle_policies import Votes
from tss.core.policies.errors import Errors
from tss.core.policy_errors import NoSuchRevision, NotShared, StalePolicies, WrongPolicies
from tss.core.ruleset import Ruleset
from tss.tasks.reloading import COMPONENT, FILE, POLL_SECS, SIGNAL, Reloading

OLD, NEW, OTHER = '{"rate": 0.1}', '{"rate": 0.5}', '{"rate": 0.7}'


@attrs.define
class Redis:
    """What replicas share, with moods."""

    store: FakeDocuments = attrs.field(factory=FakeDocuments)
    texts: FakeTexts = attrs.field(factory=FakeTexts)

    def away(self, away: bool) -> None:
        self.store.away = self.texts.away = away

    def flush(self) -> None:
        self.store = FakeDocuments()
        self.texts.texts.clear()


class Replica:
    """One replica; `reloading` is its task."""

    def __init__(self, redis: Redis, file: str = OLD, *, name: str = "one", shared: bool = True) -> None:
        self.file = FakeFile(file)
        first = ruleset(**json.loads(file))
        self.rulesets, self.meter, self.health = FakeRulesets(first), FakeMeter(), Health()
        self.reloading = Reloading(
            rulesets=self.rulesets, store=redis.store, texts=redis.texts, shared=shared, file=self.file, make=made, name=name,
            meter=self.meter, health=self.health, clock=trio.current_time,
        )  # fmt: skip

    @property
    def text(self) -> str:
        return self.rulesets.current.text

    @property
    def degraded(self) -> bool:
        return self.health.components[COMPONENT].state is State.DEGRADED

    @property
    def detail(self) -> str:
        return self.health.components[COMPONENT].detail

    def counted(self, source: str, outcome: str) -> float:
        return self.meter.counters["reloads_total", (source, outcome)]


@asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    """Each has begun, and runs."""
    async with trio.open_nursery() as nursery:
        for each in replicas:
            await each.reloading.begin()
            nursery.start_soon(each.reloading.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


async def settled(secs: float = POLL_SECS * 2) -> None:
    await trio.sleep(secs)
    await wait_all_tasks_blocked()


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found


def told(logs: list[Any], event: str) -> list[Any]:
    return [each for each in logs if each["event"] == event]


# -- by request


async def test_a_request_changes_all_replicas_and_says_who_did_what(
    redis: Redis, logs: list[Any], autojump_clock: MockClock
) -> None:
    one, other = Replica(redis), Replica(redis, name="other")
    async with running(one, other):
        change = await one.reloading.apply(NEW, "anna (10.0.0.1)")
        assert (change.revision, change.source, change.who) == (2, "api", "anna (10.0.0.1)")
        assert one.text == NEW
        await wait_all_tasks_blocked()
        assert other.text == NEW, "it was announced"
    (mine, theirs) = told(logs, "policies changed")
    assert mine["who"] == theirs["who"] == "anna (10.0.0.1)"
    assert mine["changes"] == theirs["changes"] == ["rate: 0.1 -> 0.5"]
    assert (mine["source"], theirs["source"], theirs["origin"]) == ("api", "redis", "api")
    assert one.counted("api", "accepted") == other.counted("redis", "accepted") == 1
    assert [each.revision for each in other.reloading.history.changes] == [1, 2]


async def test_a_change_that_nobody_heard_is_seen_by_polling(redis: Redis, autojump_clock: MockClock) -> None:
    one, other = Replica(redis), Replica(redis)
    async with running(one, other):
        redis.store.deaf = True
        await one.reloading.apply(NEW, "anna")
        await settled()
        assert other.text == NEW


async def test_it_survives_a_restart_of_all(redis: Redis, autojump_clock: MockClock) -> None:
    one, other = Replica(redis), Replica(redis)
    async with running(one, other):
        await one.reloading.apply(NEW, "anna")
        await settled()
    again = Replica(redis)
    async with running(again):
        assert again.text == NEW and again.rulesets.revision == 2
        assert again.reloading.particulars()["file"]
        assert again.counted("redis", "accepted") == 1


async def test_only_the_first_of_two_changes_to_one_revision_is_made(redis: Redis, autojump_clock: MockClock) -> None:
    one, other = Replica(redis), Replica(redis)
    async with running(one, other):
        seen = other.reloading.history.revision
        await one.reloading.apply(NEW, "anna", seen)
        with pytest.raises(StalePolicies, match="they are at revision 2, not 1"):
            await other.reloading.apply(OTHER, "bert", seen)
        await settled()
        assert one.text == other.text == NEW
        await other.reloading.apply(OTHER, "bert", 2)
        await settled()
        assert one.text == OTHER


async def test_the_same_policies_again_are_no_change(redis: Redis, autojump_clock: MockClock) -> None:
    one = Replica(redis)
    async with running(one):
        first = await one.reloading.apply(NEW, "anna")
        assert await one.reloading.apply(NEW, "bert") == first
        assert one.counted("api", "unchanged") == 1 and len(one.rulesets.changes) == 1


async def test_what_is_wrong_changes_nothing_and_is_counted(redis: Redis, autojump_clock: MockClock) -> None:
    one = Replica(redis)
    async with running(one):
        for text in ('{"wrong": 1}', "[]", "{", "nothing"):
            with pytest.raises(WrongPolicies):
                await one.reloading.apply(text, "anna")
        assert one.text == OLD and one.reloading.history.revision == 1
        assert one.counted("api", "refused") == 4
        assert "last_refused_request" in one.reloading.particulars()
        assert not one.degraded, "a request with a typo does not make a replica degraded"
        await one.reloading.apply(NEW, "anna")
        assert "last_refused_request" not in one.reloading.particulars()


async def test_a_change_is_rolled_back_to_the_one_before_and_to_any_other(
    redis: Redis, autojump_clock: MockClock
) -> None:
    one, other = Replica(redis), Replica(redis)
    async with running(one, other):
        await one.reloading.apply(NEW, "anna")
        await one.reloading.apply(OTHER, "anna")
        back = await other.reloading.roll_back(None, "bert")
        assert (back.revision, back.source, other.text) == (4, "rollback", NEW)
        await other.reloading.roll_back(1, "bert")
        await settled()
        assert one.text == other.text == OLD
        with pytest.raises(NoSuchRevision):
            await other.reloading.roll_back(17, "bert")
        with pytest.raises(StalePolicies):
            await other.reloading.roll_back(2, "bert", 3)
        redis.texts.texts.clear()
        with pytest.raises(NoSuchRevision, match="the text of revision 3 is not stored"):
            await other.reloading.roll_back(3, "bert")
        assert one.text == other.text == OLD


async def test_without_redis_a_request_is_refused_with_what_to_do(autojump_clock: MockClock) -> None:
    one = Replica(Redis(), shared=False)
    async with running(one):
        with pytest.raises(NotShared, match=r"change the settings file of all replicas.*or set redis\.url"):
            await one.reloading.apply(NEW, "anna")
        with pytest.raises(NotShared):
            await one.reloading.roll_back(None, "anna")
        assert one.text == OLD


# -- the file


async def test_a_changed_file_is_taken_up_once_it_is_whole(
    redis: Redis, logs: list[Any], autojump_clock: MockClock
) -> None:
    one, other = Replica(redis), Replica(redis, name="other")
    async with running(one, other):
        one.file.text = '{"half": 1}'  # valid, and not what its author means
        await trio.sleep(1.5)
        one.file.text = NEW
        await trio.sleep(1)
        assert one.text == OLD
        await settled()
        assert one.text == other.text == NEW
        assert [change.source for change in one.rulesets.changes] == [FILE]
        other.file.text = NEW  # the kubelet comes to that pod later
        await settled()
        assert one.reloading.history.revision == 2
    assert told(logs, "policies changed")[0]["changes"] == ["rate: 0.1 -> 0.5"]
    assert one.counted(FILE, "accepted") == 1


async def test_a_file_newer_than_a_request_wins_and_is_told(
    redis: Redis, logs: list[Any], autojump_clock: MockClock
) -> None:
    one, other = Replica(redis), Replica(redis, name="other")
    async with running(one, other):
        await one.reloading.apply(NEW, "anna")
        await settled()
        other.file.text = OTHER
        await settled()
        assert one.text == other.text == OTHER
    last = [each for each in told(logs, "policies changed") if each["source"] == FILE]
    assert (last[0]["who"], last[0]["changes"]) == ("other", ["rate: 0.5 -> 0.7"])


async def test_a_file_that_reaches_a_replica_late_does_not_undo_a_newer_request(
    redis: Redis, autojump_clock: MockClock
) -> None:
    """Kubernetes brings a ConfigMap to each pod at another time."""
    one, other = Replica(redis), Replica(redis, name="other")
    async with running(one, other):
        one.file.text = NEW
        await settled()
        await one.reloading.apply(OTHER, "anna")
        other.file.text = NEW
        await settled()
        assert one.text == other.text == OTHER
        assert "older" in str(other.reloading.particulars()["file"])


async def test_a_file_that_was_changed_while_nothing_ran_wins_at_the_start(
    redis: Redis, logs: list[Any], autojump_clock: MockClock
) -> None:
    one = Replica(redis)
    async with running(one):
        await one.reloading.apply(NEW, "anna")
    again = Replica(redis, OTHER)
    async with running(again):
        assert again.text == OTHER and again.reloading.history.revision == 3
    (line,) = [each for each in told(logs, "policies changed") if each["source"] == "start"]
    assert line["changes"] == ["rate: 0.5 -> 0.7"] and line["instead_of"] == "revision 2 (api: anna)"


@pytest.mark.parametrize(("changed_at", "wins"), [(0.0, False), (1e12, True)])
async def test_an_older_file_wins_only_if_it_was_put_back(
    redis: Redis, changed_at: float, wins: bool, autojump_clock: MockClock
) -> None:
    one = Replica(redis)
    async with running(one):
        one.file.text = NEW
        await settled()
    stale = Replica(redis, OLD)
    await stale.reloading.begin(changed_at)
    assert stale.text == (OLD if wins else NEW)


async def test_without_redis_the_file_always_wins(redis: Redis, autojump_clock: MockClock) -> None:
    one = Replica(redis, shared=False)
    async with running(one):
        one.file.text = NEW
        await settled()
        one.file.text = OLD
        await settled()
        assert one.text == OLD and one.reloading.history.revision == 3
    again = Replica(redis, NEW, shared=False)
    await again.reloading.begin(0.0)
    assert again.text == NEW and again.reloading.history.revision == 4


async def test_a_wrong_file_keeps_the_old_policies_until_a_good_one_comes(
    redis: Redis, logs: list[Any], autojump_clock: MockClock
) -> None:
    one = Replica(redis)
    async with running(one):
        one.file.text = '{"wrong": 1}'
        await settled(60)
        assert one.text == OLD and one.degraded and "sampling.wrong" in one.detail
        assert one.counted(FILE, "refused") == 1
        assert len([each for each in logs if each["log_level"] == "error"]) == 1, "once, not at each look"
        await one.reloading.reload(SIGNAL)
        assert one.counted(SIGNAL, "refused") == 1
        one.file.text = NEW
        await settled()
        assert one.text == NEW and not one.degraded


async def test_a_signal_reads_the_file_at_once(redis: Redis, logs: list[Any], autojump_clock: MockClock) -> None:
    one = Replica(redis)
    async with running(one):
        one.file.text = NEW
        await one.reloading.reload(SIGNAL)
        assert one.text == NEW and one.rulesets.changes[0].source == SIGNAL
        await one.reloading.reload(SIGNAL)
        assert one.counted(SIGNAL, "unchanged") == 1
    assert told(logs, "policies of the settings file are unchanged")


async def test_what_needs_a_restart_is_named_in_one_line(
    redis: Redis, logs: list[Any], autojump_clock: MockClock
) -> None:
    one = Replica(redis)
    async with running(one):
        one.file.text, one.file.needs_restart = NEW, ["kafka.brokers", "app.rootQuietSecs"]
        await settled()
        assert one.text == NEW
        assert one.reloading.particulars()["needs_restart"] == "kafka.brokers, app.rootQuietSecs"
    assert told(logs, "needs a restart: kafka.brokers, app.rootQuietSecs")


# -- Redis and its moods


async def test_while_redis_is_away_a_request_is_refused_and_a_file_is_taken_up(
    redis: Redis, logs: list[Any], autojump_clock: MockClock
) -> None:
    one, other = Replica(redis), Replica(redis, name="other")
    async with running(one, other):
        redis.away(True)
        with pytest.raises(Away):
            await one.reloading.apply(NEW, "anna")
        one.file.text = NEW
        await settled(60)
        assert (one.text, other.text) == (NEW, OLD)
        assert one.degraded and "Redis connection timeout" in one.detail
        assert len(told(logs, "policies cannot be read from or written to the store; the known ones stay")) == 2
        redis.away(False)
        await settled()
        assert one.text == other.text == NEW, "it was tried again"
        assert not one.degraded and not other.degraded
    assert one.reloading.history.revision == 2


async def test_a_request_made_while_a_replica_could_not_publish_its_file_is_newer(
    redis: Redis, autojump_clock: MockClock
) -> None:
    one, other = Replica(redis), Replica(redis, name="other")
    async with running(other):
        await one.reloading.begin()
        redis.away(True)
        one.file.text = NEW
        await one.reloading.reload(FILE)
        await trio.sleep(1)
        redis.away(False)
        await other.reloading.apply(OTHER, "anna")
        await one.reloading.look()
        assert one.text == OTHER
        again = Replica(redis, NEW)
        await again.reloading.begin()
        assert again.text == OTHER, "the same at the next start"


async def test_redis_away_at_the_start_the_file_counts_until_it_is_back(
    redis: Redis, autojump_clock: MockClock
) -> None:
    one = Replica(redis)
    async with running(one):
        await one.reloading.apply(NEW, "anna")
    redis.away(True)
    again = Replica(redis)
    async with running(again):
        assert again.text == OLD and again.degraded
        redis.away(False)
        await settled()
        assert again.text == NEW and not again.degraded


async def test_a_redis_that_was_emptied_gets_the_policies_back(redis: Redis, autojump_clock: MockClock) -> None:
    one = Replica(redis)
    async with running(one):
        await one.reloading.apply(NEW, "anna")
        await one.reloading.apply(OTHER, "anna")
        redis.store.stored = attrs.evolve(redis.store.stored, version="", documents={})
        redis.texts.texts.clear()
        newcomer = Replica(redis)  # it sees an empty store, and begins a history of its own
        await newcomer.reloading.begin()
        await settled()
        assert one.text == OTHER
        await newcomer.reloading.look()
        assert newcomer.text == OTHER and newcomer.reloading.history.revision == 3


async def test_what_this_replica_cannot_use_is_told_once_and_the_old_policies_stay(
    redis: Redis, logs: list[Any], autojump_clock: MockClock
) -> None:
    """A newer version of tss may know more kinds of policies."""
    one = Replica(redis)
    async with running(one):
        newer = Replica(redis)
        await newer.reloading.begin()
        strange = ruleset(wrong=1)
        await newer.reloading._publish(strange, "api", "carl")
        await settled(120)
        assert one.text == OLD and one.degraded and "revision 2 of carl" in one.detail
        assert one.counted("redis", "refused") == 1
        await newer.reloading.apply(NEW, "carl")
        await settled()
        assert one.text == NEW and not one.degraded


async def test_a_strangers_documents_change_nothing(redis: Redis, autojump_clock: MockClock) -> None:
    one = Replica(redis)
    async with running(one):
        for document in (
            b"",
            b"\xff",
            b"{}",
            b"[1]",
            b"null",
            b"[" * 9000,
            b'{"revision": 9, "fingerprint": 3}',
            b"x" * 10**5,
        ):
            redis.store.stored = attrs.evolve(
                redis.store.stored, documents={"change.9": document, "files": document, "x": document}
            )
            redis.store.tell()
            await settled()
            assert one.text == OLD
        await one.reloading.apply(NEW, "anna")
        assert one.text == NEW
        await settled()
        assert one.text == NEW


async def test_health_names_the_policies_that_match_nothing(redis: Redis) -> None:
    one = Replica(redis)
    assert "matched_nothing_for_a_day" not in one.health.particular(COMPONENT)
    rules = Ruleset("a" * 16, "{}", Sampler([Errors(1.0)]))
    for hour in (0, 24):
        one.reloading.unmatched.look(rules, {"errors": Votes(hour, 0)}, 3600.0 * hour)
    assert one.health.particular(COMPONENT)["matched_nothing_for_a_day"] == ["errors"]
