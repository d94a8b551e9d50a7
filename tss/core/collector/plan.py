"""A section that was read and is valid: what it keeps, and how long traces stay open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import attrs

from tss.core.collector.building import Builder, gates_of
from tss.core.collector.sampler import Collector, Voter
from tss.core.collector.section import Policy, Section, read_section
from tss.core.collector.surprises import note_surprises
from tss.core.collector.votes import Vote
from tss.core.collector.wrong import Findings, Note
from tss.core.routing import Router

Version = Literal["0.161", "0.165"]
VERSIONS: tuple[Version, ...] = ("0.161", "0.165")
"""Versions of the Collector whose verdicts are known. They differ in which policy is named, and 0.161 loses schema URLs."""


@final
@attrs.frozen
class Plan:
    """A section, the vote of each of its policies in its order, and what to tell the operator about it."""

    section: Section
    votes: tuple[tuple[Policy, Vote], ...]
    notes: tuple[Note, ...]
    gates: frozenset[str]
    version: Version

    def sampler(self, router: Router | None = None) -> Collector:
        """What decides as the section says."""
        voters = [Voter(policy.name, vote, drops=policy.type == "drop") for policy, vote in self.votes]
        return Collector(voters, router, least=self.version != "0.161", first_match=self.section.sample_on_first_match)

    @property
    def decision_wait_ms(self) -> int:
        """A trace closes that long after its first span, in stream time. At least 1."""
        return max(1, self.section.decision_wait // 10**6)

    @property
    def root_wait_ms(self) -> int:
        """A trace closes that long after a root. 0: a root closes nothing."""
        wait = self.section.decision_wait_after_root_received
        return max(1, wait // 10**6) if wait > 0 else 0

    @property
    def shortest_wait_ms(self) -> int:
        """No trace closes earlier than this after its root, except because of a limit."""
        return min(self.decision_wait_ms, self.root_wait_ms or self.decision_wait_ms)

    @property
    def max_trace_bytes(self) -> int:
        """A trace that grows above this is dropped at once. 0: no limit."""
        return self.section.maximum_trace_size_bytes


def read(body: object, gates: Sequence[str] = (), version: Version = "0.161") -> Plan:
    """The plan of a section's body, as YAML or JSON gives it. Raises WrongSection with all that is wrong."""
    found = Findings()
    enabled = gates_of(gates, found)
    section = read_section(body, found)
    votes = Builder(found, consistent="usetracestate" in enabled, schemaless=version == "0.161").votes(section)
    found.check()
    note_surprises(section, found)
    return Plan(section, tuple(votes), tuple(found.notes), enabled, version)
