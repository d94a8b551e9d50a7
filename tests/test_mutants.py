"""What the mutation runner changes: it must be a change, one that compiles, and the one that its name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants.mutating import chosen, mutations_in, mutations_of
from mutants.planted import PLANTED, Planted

ROOT = Path(__file__).parents[1]
SOURCE = b"""\
LIMIT = 5

class Way(Protocol):
    def go(self) -> None:
        print(1)

class Road:
    def __repr__(self) -> str:
        return str(1 + 1)

    def go(self, far: int = 3) -> int:
        log.info("going", far=far + 1)
        \xc3\xa4 = 0.5
        if not far and (far < 2 or far is None):
            return
        self.gone = max(far, 7)
        self.turn()
        return [x for x in self.ways if x]
"""


def test_every_mistake_that_can_be_made() -> None:
    found = {(each.line, each.kind, each.before, each.after) for each in mutations_in("a.py", SOURCE)}
    assert found == {
        (1, "off by one", "5", "6"),
        (11, "off by one", "3", "4"),
        (13, "constant", "0.5", "5.0"),
        (14, "and/or", "not far and (far < 2 or far is None)", "(not far or (far < 2 or far is None))"),
        (14, "negated", "not far and (far < 2 or far is None)", "(not (not far and (far < 2 or far is None)))"),
        (14, "and/or", "far < 2 or far is None", "(far < 2 and far is None)"),
        (14, "not dropped", "not far", "(far)"),
        (14, "comparison", "far < 2", "(far <= 2)"),
        (14, "comparison", "far is None", "(far is not None)"),
        (14, "off by one", "2", "3"),
        (15, "removed", "return", "pass"),
        (16, "removed", "self.gone = max(far, 7)", "pass"),
        (16, "call swapped", "max", "min"),
        (16, "off by one", "7", "8"),
        (17, "removed", "self.turn()", "pass"),
        (18, "negated", "x", "(not (x))"),
    }


def test_a_mistake_changes_nothing_else() -> None:
    for each in mutations_in("a.py", SOURCE):
        mutated = each.applied(SOURCE)
        compile(mutated, "a.py", "exec")
        assert mutated[: each.begin] == SOURCE[: each.begin] and mutated.endswith(SOURCE[each.end :])
        assert " ".join(SOURCE[each.begin : each.end].decode().split()) == each.before and mutated != SOURCE


def test_a_seed_chooses_the_same_ones_when_the_file_has_grown() -> None:
    grown = b"\n\ndef before() -> int:\n    return 1 + 1\n\n" + SOURCE
    first, second = (chosen(mutations_in("a.py", source), 8, 3) for source in (SOURCE, grown))
    added = {each.name for each in second if each.function == "before"}
    assert [each.name for each in second if each.name not in added] == [each.name for each in first][: 8 - len(added)]
    assert chosen(mutations_in("a.py", SOURCE), 8, 4) != first


def test_of_all_that_is_watched_each_has_its_own_name() -> None:
    names = [each.name for each in mutations_of(ROOT, ["tss/tasks"])]
    assert len(names) == len({*names}) > 500


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_what_was_planted_can_still_be_planted(planted: Planted) -> None:
    """Elsewhere, should the code have moved: `make mutants ARGS=--planted` says whether it is still found."""
    compile(planted.applied((ROOT / planted.path).read_bytes()), planted.path, "exec")
    for test in planted.tests:
        assert (ROOT / test.partition("::")[0]).exists()
