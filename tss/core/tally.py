"""What this replica has decided since its start, by policy and by service. Metrics and `/api/status` read it.

Each span of the input is counted once: with its decided trace, as a late span, or as a late span of a dropped trace. Not
counted are spans below the committed offset and spans that every destination already had.
"""

from __future__ import annotations

from collections.abc import Iterable

from tss.core.decision import FORCE, Decision
from tss.core.names import OTHER, TOO_MANY, UNKNOWN_SERVICE, Names
from tss.core.policies.policy import Policy
from tss.core.trace import Trace

LATE = "late"
"""Stands for the policy of late spans of dropped traces: of such a trace only the verdict is remembered."""
MOST_SERVICES = 200
PER_POLICY_BYTES = 1_000
PER_SERVICE_BYTES = 1_000  # with its series in the exposition


class OfService:
    """The counts of one service. A trace belongs to the service of its root span (`core/names.py`)."""

    __slots__ = ("bytes_in", "bytes_out", "kept", "name", "traces")

    def __init__(self, name: str) -> None:
        self.name = name
        self.traces = 0  # decided
        self.kept = 0
        self.bytes_in = 0  # serialized TracesData, as they arrived
        self.bytes_out = 0  # of kept traces, as they were prepared; once, whatever the number of destinations


class OfPolicy:
    """The counts of one policy: of its votes, and of the traces that it decided. Spans and bytes include late ones."""

    __slots__ = (
        "bytes_dropped", "bytes_kept", "dropped", "evaluated", "kept", "matched", "name", "seconds", "spans_dropped",
        "spans_kept", "vote_secs",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.evaluated = 0  # how often it was asked
        self.matched = 0  # how often it voted to keep or to drop
        self.kept = 0
        self.dropped = 0
        self.spans_kept = 0
        self.spans_dropped = 0
        self.bytes_kept = 0
        self.bytes_dropped = 0
        self.seconds = 0.0  # estimated
        self.vote_secs = 0.0  # of one vote, as measured last


class Tally:
    """All counts. ``names`` gives the services their numbers."""

    def __init__(self, names: Names, most_services: int = MOST_SERVICES) -> None:
        """Services beyond ``most_services`` are counted together."""
        self.names = names
        self.policies: dict[str, OfPolicy] = {}
        self._first_too_many = 2 + most_services  # the first two numbers are no names
        self._services = [OfService(UNKNOWN_SERVICE), OfService(TOO_MANY)]
        self._shown = [False, False]  # by service: whether it was counted
        self._new: list[OfPolicy | OfService] = []

    @property
    def held_bytes(self) -> int:
        """Memory in bytes, the names included."""
        own = PER_POLICY_BYTES * len(self.policies) + PER_SERVICE_BYTES * len(self._services)
        return own + self.names.held_bytes

    def take_new(self) -> list[OfPolicy | OfService]:
        """The policies and services that were counted for the first time since the last call."""
        new, self._new = self._new, []
        return new

    def services(self) -> list[OfService]:
        """All that have been counted."""
        return [each for each, shown in zip(self._services, self._shown, strict=True) if shown]

    def policy(self, name: str) -> OfPolicy:
        """The counts of this policy."""
        found = self.policies.get(name)
        if found is None:
            found = self.policies[name] = OfPolicy(name)
            self._new.append(found)
        return found

    def of(self, service: int) -> OfService:
        """The counts of the service with this number."""
        number = service
        if number >= self._first_too_many:
            number = OTHER
        if number >= len(self._services):
            self._grow(number)
        if not self._shown[number]:
            self._shown[number] = True
            self._new.append(self._services[number])
        return self._services[number]

    def _grow(self, number: int) -> None:
        while len(self._services) <= number:
            self._services.append(OfService(self.names.services.texts[len(self._services)]))
            self._shown.append(False)

    def decided(self, trace: Trace) -> None:
        """Count a decided trace that is held, or late spans, for their service."""
        counts = self.of(trace.service)
        counts.bytes_in += trace.payload_bytes
        if not trace.late:
            counts.traces += 1
            if trace.decision is not None and trace.decision.keeps:
                counts.kept += 1

    def sent(self, traces: Iterable[Trace]) -> None:
        """Count kept traces that are ready to be sent."""
        for trace in traces:
            if trace.decision is not None and trace.decision.destinations != ():
                counts = self.of(trace.service)
                counts.bytes_out += trace.payload_bytes

    def drop_late(self, service: int, spans: int, payload_bytes: int) -> None:
        """Count late spans of a dropped trace."""
        theirs = self.of(service)
        theirs.bytes_in += payload_bytes
        counts = self.policy(LATE)
        counts.spans_dropped += spans
        counts.bytes_dropped += payload_bytes

    def count(self, decision: Decision, traces: int, spans: int, payload_bytes: int) -> None:
        """Add traces, or late spans with 0 traces, to the counts of the policy that decided."""
        counts = self.policy(decision.policy if decision.rule is None else FORCE)
        if decision.keeps:
            counts.kept += traces
            counts.spans_kept += spans
            counts.bytes_kept += payload_bytes
        else:
            counts.dropped += traces
            counts.spans_dropped += spans
            counts.bytes_dropped += payload_bytes

    def take_votes(self, policies: Iterable[Policy]) -> None:
        """Move the policies' own counts of their votes here."""
        for policy in policies:
            counts = self.policy(policy.name)
            counts.evaluated += policy.evaluated
            counts.matched += policy.matched
            counts.seconds += policy.evaluated * counts.vote_secs
            policy.forget_votes()
