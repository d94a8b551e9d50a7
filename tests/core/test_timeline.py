"""Which ruleset is in force when, and what stands of it beside a committed offset."""

from __future__ import annotations

import pytest

from tss.core.partition import MARGIN_SECS, Commit, Partition
from tss.core.timeline import MOST, NEVER, Timeline
from tss.edges.kafka.starts import start_of
from tss.edges.kafka_client.offset_metadata import from_metadata, rules_of, to_metadata

A, B, C = "a" * 16, "b" * 16, "c" * 16
GOLDEN = '{"v":1,"replay":20,"rules":[[0,"aaaaaaaaaaaaaaaa"],[1700000000,"bbbbbbbbbbbbbbbb"]]}'


def test_an_entry_is_in_force_until_the_next() -> None:
    found = Timeline().then(0, A).then(100, B).then(50, C)
    assert found.entries == ((0, A), (100, B), (101, C)), "never two at one second, and never back"
    assert [found.at(second) for second in (-1, 0, 99, 100, 101, 10**9)] == ["", A, A, B, C, C]
    assert found.since(100).entries == ((100, B), (101, C)) and found.since(99) == found
    assert found.since(10**9).entries == ((101, C),)
    assert found.first_missing(((0, A),)) == 100 and found.first_missing(found.entries) == NEVER


def test_the_oldest_goes_when_there_are_too_many() -> None:
    found = Timeline()
    for second in range(MOST + 5):
        found = found.then(second, f"{second:016x}")
    assert len(found.entries) == MOST and found.at(4) == "" and found.at(5) == f"{5:016x}"
    assert len(to_metadata(Commit(1 << 60, 1 << 60, rules=found.entries))) < 2000, "brokers allow 4096 bytes"


def test_what_is_beside_the_offset() -> None:
    commit = Commit(50, 20, rules=((0, A), (1_700_000_000, B)))
    assert to_metadata(commit) == GOLDEN
    assert rules_of(GOLDEN) == commit.rules
    assert start_of(50, GOLDEN, 0, 100, "latest").rules == commit.rules
    assert from_metadata(GOLDEN) == (20, None, None), "the version before reads it as this does: by names"


@pytest.mark.parametrize(
    "rules",
    ["7", "{}", '[["a",1]]', '[[-1,"a"]]', '[[1,"a"],[0,"b"]]', "[[1,2]]", "[[1]]", f'[[1,"{"a" * 99}"]]', "null"],
)
def test_foreign_rules_are_none(rules: str) -> None:
    assert rules_of(f'{{"v":1,"replay":1,"rules":{rules}}}') == ()
    assert rules_of(None) == rules_of("keda") == rules_of('{"v":1,"replay":1}') == rules_of("[]") == ()


def test_what_closes_under_a_ruleset_that_kafka_does_not_know_waits() -> None:
    home = Partition(0, 0, 10**9, rules=Timeline(((0, A),)))
    home.time.observe(100_500, 10**15)
    home.change_rules(B, commits=True)
    assert home.rules.last == B and home.ruled_to == home.rules.entries[-1][0] > 100
    assert home.commit().rules == home.rules.entries
    home.change_rules(C, commits=True)
    assert home.ruled_to == home.rules.entries[1][0], "of the first that is not known"
    home.took(home.rules.entries[:2])
    assert home.ruled_to == home.rules.entries[2][0]
    home.took(home.rules.entries)
    assert home.ruled_to == NEVER


def test_the_margin_grows_while_stream_time_is_faster_than_the_commits() -> None:
    home = Partition(0, 0, 10**9, rules=Timeline(((0, A),)))
    seconds = []
    for name in (B, C, A):
        home.change_rules(name, commits=True)
        seconds.append(home.margin_secs)
    assert seconds == [2 * MARGIN_SECS, 4 * MARGIN_SECS, 8 * MARGIN_SECS]
    home.took(home.rules.entries)
    assert home.margin_secs == MARGIN_SECS


def test_without_commits_a_change_is_in_force_at_once() -> None:
    home = Partition(0, 0, 10**9, rules=Timeline(((0, A),)))
    home.time.observe(100_500, 10**15)
    home.change_rules(B, commits=False)
    assert (home.rules.entries[-1], home.ruled_to) == ((101, B), NEVER)


def test_a_change_comes_after_what_an_earlier_owner_may_have_decided() -> None:
    home = Partition(0, 50, 10**9, rules=Timeline(((0, A),)), settled_second=500)
    home.time.observe(100_500, 10**15)
    home.change_rules(B, commits=False)
    assert home.rules.entries[-1] == (501, B)
