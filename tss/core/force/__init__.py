"""Force rules: what an operator wants kept or dropped for a while, whatever the policies say.

A rule has matchers and an end. It is found at a trace's decision, on the spans themselves; who changes rules, and how they
spread, is told elsewhere (`tasks/forcing`, `edges/redis/rules`).
"""

from tss.core.force.book import Enforcer, Rulebook
from tss.core.force.rule import POLICY, Action, Matcher, Op, Rule, Where

__all__ = ["POLICY", "Action", "Enforcer", "Matcher", "Op", "Rule", "Rulebook", "Where"]
