"""The rulesets of a replica: the current one, those that its partitions need, and what the scanners are asked."""

from __future__ import annotations

import attrs

from tests.fakes.meter import FakeMeter
from tests.rulesets import ruleset, rulesets
from tss.core import measures
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.combining import Sampler
from tss.core.conditions.formula import Compare, Field, Leaf, OfSpans, Place
from tss.core.conditions.statement import Asked
from tss.core.memory import Memory
from tss.core.policies.matching import Matching
from tss.core.policies.rest import Rest
from tss.core.ruleset import Change, Ruleset
from tss.core.startposition import StartPosition
from tss.core.timeline import NEVER, Timeline
from tss.core.trace import Trace
from tss.state.assignments import Assignments
from tss.state.rulesets import MOST_CHANGES, MOST_KNOWN, Rulesets

WALL_SECS = 1_000


def asking(name: str) -> Sampler:
    leaf = Leaf(Field(Place.SPAN, "name"), Compare("==", name))
    return Sampler([Matching(name, 1.0, Asked(OfSpans(leaf))), Rest(0.5)])


def change(to: Ruleset, revision: int = 2) -> Change:
    return Change(to.fingerprint, revision, 1.0, "me", "api")


@attrs.define
class Shelf:
    texts: dict[str, str]

    async def get(self, fingerprint: str) -> str | None:
        return self.texts.get(fingerprint)

    async def put(self, fingerprint: str, text: str) -> None:
        self.texts[fingerprint] = text


def assignments(known: Rulesets, *, commits: bool = True) -> Assignments:
    buffer = Buffer(Limits(1 << 30, 1000, 1000, 1000), Waits(30_000, 30_000, 30_000), Memory())
    return Assignments(
        "t", buffer, FakeMeter(), max_skew_ms=0, replay_secs=60, commits=commits, rulesets=known,
        wall_secs=lambda: WALL_SECS,
    )  # fmt: skip


def test_a_change_is_told_once_and_the_same_again_is_none() -> None:
    known, other = rulesets(asking("x")), ruleset(asking("y"), "b")
    told: list[Change] = []
    known.watch(told.append)
    assert known.accept(other, change(other)).new
    assert known.current is other and known.revision == 2
    again = known.accept(ruleset(asking("y"), "b"), change(other, 3))
    assert not again.new and known.current is other
    assert [each.fingerprint for each in told] == [other.fingerprint]


def test_history_and_known_rulesets_are_bounded() -> None:
    known = rulesets(asking("x"))
    for number in range(150):
        one = Ruleset(f"{number:016x}", "{}", asking("x"))
        known.accept(one, change(one, number + 2))
    assert len(known.history) == MOST_CHANGES and len(known.known) == MOST_KNOWN
    meter = known._meter
    assert isinstance(meter, FakeMeter)
    assert [labels for name, labels in meter.gauges if name == measures.RULESET_INFO.name] == [(f"{149:016x}", "151")]


def test_scanners_are_asked_what_any_partition_still_needs() -> None:
    known, other, third = rulesets(asking("x")), ruleset(asking("y"), "b"), ruleset(asking("y"), "c")
    before = known.program
    book = assignments(known)
    book.assigned({0: StartPosition(0, 0, committed=False, end=0)})
    (home,) = book
    assert home.rules.entries == ((0, "a" * 16),)
    known.accept(other, change(other))
    assert [fingerprint for _, fingerprint in home.rules.entries] == ["a" * 16, "b" * 16]
    assert known.program.covers(before) and known.program.covers(other.sampler.program)
    joined = known.program
    known.accept(third, change(third, 3))
    assert known.program is joined, "only the rates have changed: nothing is scanned anew"
    home.rules = Timeline(((0, "c" * 16),))
    known.look()
    assert known.program is third.sampler.program


def test_the_ruleset_of_the_second_at_which_a_trace_closed_decides() -> None:
    known, other = rulesets(asking("x")), ruleset(asking("y"), "b")
    book = assignments(known, commits=False)
    book.assigned({0: StartPosition(0, 0, committed=False, end=0)})
    (home,) = book
    home.time.observe(100_000, 10**15)
    known.accept(other, change(other))
    ((_, _), (second, _)) = home.rules.entries
    assert second == 101
    first = known.in_force(home, 100)
    assert first is not None and first.fingerprint == "a" * 16 and known.in_force(home, 101) is other


def test_what_an_earlier_owner_may_have_decided_by_unknown_rules_is_not_decided_anew() -> None:
    known = rulesets(asking("x"))
    book = assignments(known)
    book.assigned({0: StartPosition(50, 20, committed=True, end=80, rules=((0, "f" * 16),))})
    (home,) = book
    settled, new = Trace(bytes(16), home, 30), Trace(bytes(16), home, 60)
    assert known.choose(settled) is None, "follow the memory, or nothing"
    assert known.choose(new) is known.current.sampler, "nobody has decided it for good"
    assert home.sampler_from == NEVER


async def test_a_missing_ruleset_is_looked_up() -> None:
    found = ruleset(asking("z"), "f")
    known = Rulesets(
        ruleset(asking("x")), Change("a" * 16, 1, 0.0), FakeMeter(), Shelf({"f" * 16: "text", "e" * 16: "bad"}),
        lambda text: found if text == "text" else None,
    )  # fmt: skip
    book = assignments(known)
    starts = {0: StartPosition(50, 20, committed=True, end=80, rules=((0, "e" * 16), (5, "f" * 16)))}
    await book.learn(starts)
    book.assigned(starts)
    (home,) = book
    assert known.in_force(home, 4) is None and known.in_force(home, 5) is found
    assert known.program.covers(found.sampler.program)


def test_a_changed_file_is_in_force_after_the_end_that_the_partition_had() -> None:
    known = rulesets(asking("x"))
    book = assignments(known)
    book.assigned({0: StartPosition(50, 20, committed=True, end=80, rules=((0, "f" * 16),))})
    (home,) = book
    home.time.observe(100_000, 10**15)
    book.change_rules()
    assert home.rules.last == "f" * 16
    home.mark(80)
    book.change_rules()
    assert home.rules.last == "a" * 16 and home.rules.entries[-1][0] > WALL_SECS, "others closed by the wall clock"
    assert book.hurried and book.is_awaited
    due = book.due()
    assert due[0].rules == home.rules.entries
    book.committed(due)
    assert not book.is_awaited and not book.due()


def test_a_partition_without_a_timeline_gets_one_with_its_first_commit() -> None:
    book = assignments(rulesets(asking("x")))
    commits = book.assigned({0: StartPosition(50, 20, committed=True, end=80)})
    assert commits[0].rules == ((0, "a" * 16),)


def test_a_partition_that_is_read_again_keeps_its_timeline() -> None:
    known, other = rulesets(asking("x")), ruleset(asking("y"), "b")
    book = assignments(known)
    book.assigned({0: StartPosition(0, 0, committed=False, end=0)})
    known.accept(other, change(other))
    (before,) = book
    home = book._rewound(before, 0)
    assert home is not before
    assert (home.rules, home.ruled_to) == (before.rules, before.ruled_to) and home.ruled_to != NEVER
