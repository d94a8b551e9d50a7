"""Rulesets made of samplers, for tests that need no settings."""

from tests.fakes.meter import FakeMeter
from tss.core.combining import Sampler
from tss.core.ruleset import Change, Ruleset
from tss.state.rulesets import Rulesets


def ruleset(sampler: Sampler, name: str = "a") -> Ruleset:
    return Ruleset(name * 16, "{}", sampler)


def rulesets(sampler: Sampler) -> Rulesets:
    first = ruleset(sampler)
    return Rulesets(first, Change(first.fingerprint, 1, 0.0), FakeMeter())
