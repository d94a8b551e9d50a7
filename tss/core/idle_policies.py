"""Policies that match nothing: a condition with a typo, or a service that is gone."""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs

from tss.core.ruleset import Ruleset

IDLE_SECS = 86_400.0


@attrs.frozen
class Votes:
    """How often a policy was asked since the start, and how often it matched."""

    asked: int
    matched: int


@attrs.define
class _Since:
    at: float
    votes: Votes
    told: bool = False


class IdlePolicies:
    """Finds the policies that were asked for a whole day, and matched nothing."""

    def __init__(self) -> None:
        self._ruleset = ""  # the fingerprint of the one that was looked at last
        self._written: dict[str, str] = {}  # its policies, by name
        self._since: dict[str, _Since] = {}

    def __repr__(self) -> str:
        return f"<IdlePolicies {self.idle} of {len(self._since)}>"

    @property
    def idle(self) -> list[str]:
        """The policies that were found and have matched nothing since."""
        return sorted(name for name, since in self._since.items() if since.told)

    def look(self, ruleset: Ruleset, votes: Mapping[str, Votes], now: float) -> list[str]:
        """The policies of the ruleset whose day is full at ``now`` (seconds). For new and changed policies a day begins."""
        if ruleset.fingerprint != self._ruleset:
            self._change(ruleset)
        found = []
        for name in self._written:
            counts = votes.get(name, Votes(0, 0))
            since = self._since.get(name)
            if since is None or counts.matched != since.votes.matched:
                self._since[name] = _Since(now, counts)
            elif now - since.at >= IDLE_SECS and counts.asked > since.votes.asked:
                self._since[name] = _Since(now, counts, told=True)
                found.append(name)
        return found

    def _change(self, ruleset: Ruleset) -> None:
        before, self._written = self._written, _written(ruleset)
        same = before.items() & self._written.items()
        self._since = {name: since for name, since in self._since.items() if (name, before[name]) in same}
        self._ruleset = ruleset.fingerprint


def _written(ruleset: Ruleset) -> dict[str, str]:
    """How the settings write each policy. Those without an entry of their own (`errors`, `latency`, `default`) depend on the
    keys of the section."""
    keys = json.loads(ruleset.text)
    section = keys.pop("otelTailSampling", None) or {}
    entries = [*(keys.pop("policies", None) or ()), *(section.get("policies") or ())]
    written = {entry["name"]: json.dumps(entry) for entry in entries}
    rest = json.dumps(keys)
    return {policy.name: written.get(policy.name, rest) for policy in ruleset.sampler.policies}
