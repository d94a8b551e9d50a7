"""Force rules: an operator keeps or drops certain traces for a limited time, whatever the policies say.

A rule has matchers and an expiry time. Rules are matched against the spans of a trace when the trace is decided.
`tasks/forcing` and `edges/redis/documents` change the rules and share them among replicas.
"""

from tss.core.force.book import Enforcer, Rulebook
from tss.core.force.rule import Action, Matcher, Op, Rule, Where

__all__ = ["Action", "Enforcer", "Matcher", "Op", "Rule", "Rulebook", "Where"]
