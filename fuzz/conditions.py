"""Fuzzes the condition language: `python -m fuzz.conditions --cases 100000 --seed 1`.

Any text is read or raises ConditionError; what is read answers every span without raising, its formula answers the same, and its
canonical text is the same condition. Stops at the first case that breaks one of these, and prints it.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

from tests.core.formulas import answer_of
from tests.core.ottl_cases import Cases, View, views
from tss.core.conditions.errors import ConditionError
from tss.core.conditions.language import Condition, Context, Of, parse
from tss.core.conditions.splitting import to_formula

# Pieces that mean something to the reader, to be put in anywhere.
PIECES = (
    "(", ")", "[", "]", "{", "}", '"', "\\", "\\x", ".", ",", ":", "=", "==", "=>", "<", "!", "+", "-", "*", "/", "0x", "0", "08", "9" * 20,
    "1.", ".5", "e3", "nil", "not ", " and ", " or ", "true", "_", "\n", "\t", "\x00", "\ud800", "é", "😀", "A", "Is", "Match(", "root.",
    "trace.", "spanevent.", "resource.", "scope.", "span.", "attributes", "cache", "otelcol.", "IsRootSpan()", "Now()", "SPAN_KIND_SERVER",
)  # fmt: skip


class BrokenError(Exception):
    """A case that broke a law."""


def mutated(rng: Random, text: str, other: str) -> str:
    """The text with pieces put in, taken out, doubled, or taken from another text."""
    for _ in range(rng.choice((0, 0, 1, 1, 3))):
        at = rng.randrange(len(text) + 1)
        match rng.randrange(5):
            case 0:
                text = text[:at] + rng.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + text[at + rng.randrange(6) :]
            case 2:
                start = rng.randrange(len(other) + 1)
                text = text[:at] + other[start : start + rng.randrange(20)] + text[at:]
            case 3:
                text = text[:at] + text[at : at + rng.randrange(20)] * rng.choice((2, 3, 50)) + text[at:]
            case 4:
                text = text[:at] + chr(rng.randrange(0x250)) + text[at + 1 :]
    return text


def check(text: str, context: Context, seen: list[View], *, ours: bool) -> bool:
    """Whether the text is a condition. Raises BrokenError if a law does not hold, and what the language may not raise."""
    try:
        condition = parse(text, context, ours=ours)
    except ConditionError:
        return False
    _check_canonical(condition.told, context, ours=ours)
    ask = condition.evaluator()
    answers = [ask(view) for view in seen]
    if Of.TRACE not in condition.owners and len(condition.owners) <= 1:
        _compare(condition, seen, answers)
    return True


def _check_canonical(told: str, context: Context, *, ours: bool) -> None:
    try:
        again = parse(told, context, ours=ours).told
    except ConditionError as error:
        if "at most" in error.message:  # it has more brackets than what was written
            return
        raise
    if again != told:
        raise BrokenError(f"another condition by its canonical text {told!r}")


def _compare(condition: Condition, seen: list[View], answers: list[int]) -> None:
    formula = to_formula(condition)
    split = [answer_of(formula, view) for view in seen]
    if split != answers:
        raise BrokenError(f"the formula answers {split}, the evaluator {answers}")


def run(rng: Random, cases: int) -> int:
    """How many of the texts were conditions."""
    source, other, read = Cases(rng), "", 0
    for number in range(cases):
        context = rng.choice((Context.SPAN, Context.SPAN, Context.SPAN_EVENT))
        if number % 20 == 0:
            seen = {each: list(views(source.trace(), each)) for each in Context}
        text = source.condition(context)
        text, other = mutated(rng, text, other), text
        try:
            read += check(text, context, seen[context], ours=rng.random() < 0.3)
        except Exception:
            print(f"case {number}: {context} {text!r}", flush=True)
            raise
    return read


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.conditions", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", default=str(time.time_ns()), help="the cases of a seed are always the same")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    began = time.monotonic()
    read = run(Random(options.seed), options.cases)
    rate = options.cases / (time.monotonic() - began)
    print(
        f"{options.cases:,} texts, {read / options.cases:.0%} of them conditions, no law broken; {rate:,.0f} a second"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
