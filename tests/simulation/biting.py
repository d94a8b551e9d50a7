"""Whether a law's check bites: the check itself, and not a program that crashed for another reason."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.simulation.laws import breaches
from tests.simulation.plan import Plan
from tests.simulation.quiet import quiet
from tests.simulation.world import run
from tss.core.errors import LawBroken

# What each check says, by the law it watches. `test_each_check_bites` holds that there is none beside these.
LOST = r"law 1: the commit at moment \S+ passed .* although span"
STUCK = r"law 1: after \S+ s without faults not all is committed"
NOT_THE_POLICIES = r"law 2: .* is not what the policies say of"
NOT_THE_LOGS_VERDICT = r"law 2: .*, but the log says keep="
NOT_THE_LOGS_SPANS = r"law 3: .* knew .*, but the log says"
TWO_VERDICTS = r"law 2: .* is another verdict than that of"
WITHOUT_RULES = r"law 2: .* was made without the rules"
DROPPED_AND_SENT = r"law 2: #\S+ dropped \S+ and sent"
TWICE_IN_ORDER = r"law 2: \S+ has .* \S+ times, written \S+ times"
TWICE_IN_CALM = r"law 4: \S+ has .* \S+ times, written \S+ times"
DECIDED_TWICE = r"law 4: .* decided twice in incarnation"
CLOSED_TWICE = r"law 4: .* closed twice in incarnation"
GARBAGE_PASSED = r"law 4: garbage \S+ \(\S+\) was passed before"
GARBAGE_NOT_KEPT = r"law 4: garbage \S+ \(\S+\) is not in the dead letters"
NO_REASON = r"law 4: .* has no reason"
WRONG_REASON = r"law 4: .* gives the wrong reason for"
MISCOUNTED = r"law 4: #\S+ counts"
INNOCENT = r"law 4: \S+ was dead-lettered for \S+, which would take it"
TOO_MANY_BYTES = r"law 5: #\S+ held \S+ bytes more than"
OTHER_BYTES = r"law 6: \S+ has a span that nobody wrote"
ANOTHER_WEIGHT = r"law 7: .* has a span of \S+ with .*, ruled"
EXCLUDED_BY_ITS_WEIGHT = r"law 7: .* has a span of \S+ that .* excludes"
SLOW_STOP = r"law 9: #\S+ took \S+ s to stop"

CHECKS = frozenset(value for name, value in [*globals().items()] if name.isupper() and isinstance(value, str))


def bites(check: str, plans: Iterable[Plan]) -> bool:
    """Whether the check speaks in one of these worlds.

    A world in which the program died counts for nothing, whatever else is wrong in it. Raises AssertionError when none
    bites, with what the program died of.
    """
    assert check in CHECKS, f"{check!r} is no check"
    died: list[str] = []
    worlds = 0
    with quiet():
        for each in plans:
            world = run(each)
            worlds += 1
            if world.deaths:
                died += [repr(error) for error in world.deaths]
            elif any(re.match(check, text) for text in breaches(world)):
                return True
    crashed = f"; in {len(died)} lives the program died, which proves nothing: {died[0]}" if died else ""
    raise AssertionError(f"{worlds} seeds without a bite of {check!r}{crashed}")


def is_a_law(error: BaseException) -> bool:
    """Whether the program ended because it noticed itself that a law would break."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_a_law(each) for each in error.exceptions)
    return isinstance(error, LawBroken)
