"""What the answers of the scanner cost, alone and without a broker: `python -m bench.asked [--sizes 1,8]`.

Nanoseconds a span beside a scan that asks nothing, for the programs by turns, a few records at a time: so all of them see the same
machine. `20 new` has met no value before. Time is that of the thread. Told is the median of some rounds, and their range.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence

from bench.asks import TWENTY, twenty
from bench.corpus import Corpus
from tss.core.conditions.formula import Compare, Field, Leaf, OfSpans, Place
from tss.core.conditions.program import Program
from tss.core.force.book import Rulebook
from tss.core.force.rule import Action, Matcher, Op, Rule, Where
from tss.core.otlp import SCANNER, Encoding, Scanner

AT_ONCE = 250  # records
ROUNDS = 9

ROUTE = Program([OfSpans(Leaf(Field(Place.SPAN, "attributes", "http.route"), Compare("==", "/pay")))])
MATCHERS = (
    (Matcher(Where.SPAN, "url.path", Op.CONTAINS, "/admin/"),),
    (Matcher(Where.RESOURCE, "service.name", Op.EQ, "billing"), Matcher(Where.NAME, "", Op.STARTS_WITH, "POST ")),
    (Matcher(Where.SPAN, "http.response.status_code", Op.GTE, 500), Matcher(Where.SPAN, "tenant.id", Op.EXISTS, True)),
)


def rules() -> Program | None:
    """The program of three force rules."""
    made = [Rule(f"{at}", f"{at}", Action.KEEP, each, 0.0, 1e12) for at, each in enumerate(MATCHERS)]
    return Rulebook(made, 0.0).program


KINDS: dict[str, Callable[[], Scanner]] = {
    "nothing": Scanner,
    "3": lambda: Scanner(Program(TWENTY[:2])),
    "20": lambda: Scanner(twenty()),
    "20 new": lambda: Scanner(twenty()),
    "a route": lambda: Scanner(ROUTE),
    "3 rules": lambda: Scanner(rules=rules()),
    "20, 3 rules": lambda: Scanner(twenty(), rules()),
}


def spent_ns(scanner: Scanner, values: Sequence[bytes]) -> int:
    began, records = time.thread_time_ns(), scanner.records()
    for value in values:
        records.add(0, 0, 0)
        scanner.read(value, Encoding.AUTO, records, [])
    return time.thread_time_ns() - began


def a_round(scanners: dict[str, Scanner], values: Sequence[bytes]) -> dict[str, int]:
    """Nanoseconds for all values."""
    spent = dict.fromkeys(scanners, 0)
    for at in range(0, len(values), AT_ONCE):
        for name, scanner in scanners.items():
            spent[name] += spent_ns(scanner, values[at : at + AT_ONCE])
    return spent


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.asked", description=__doc__)
    parser.add_argument("--sizes", default="1,8", help="spans a record, with commas between (default: %(default)s)")
    parser.add_argument("--spans", type=int, default=80_000, help="for each size (default: %(default)s)")
    options = parser.parse_args()
    gc.disable()
    print(f"scanner {SCANNER}; ns a span more than with nothing asked, the median of {ROUNDS} rounds and their range")
    for size in map(int, options.sizes.split(",")):
        corpus = Corpus(size)
        groups = corpus.groups(-(-options.spans // corpus.group_spans), 10**18)
        values = [value for group in groups for _, value in group.records]
        known = {name: make() for name, make in KINDS.items()}
        a_round(known, values)
        rounds = [a_round(known | {"20 new": KINDS["20 new"]()}, values) for _ in range(ROUNDS)]
        spans = len(values) * corpus.record_spans
        print(
            f"{size} spans a record: nothing asked takes {statistics.median(each['nothing'] for each in rounds) / spans:.0f} ns a span"
        )
        for name in KINDS:
            more = sorted((each[name] - each["nothing"]) / spans for each in rounds)
            print(f"{name:>12} {statistics.median(more):>7.0f} ({more[0]:.0f} to {more[-1]:.0f})")


if __name__ == "__main__":
    main()
