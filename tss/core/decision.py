"""The decision about a trace and its reason."""

from __future__ import annotations

import enum

import attrs


class Verdict(enum.Enum):
    """Whether a trace is kept."""

    KEEP = "keep"
    DROP = "drop"


class Reason(enum.Enum):
    """Why a trace was decided at that time. The value is the metric label, the log field and the answer of a lookup."""

    ROOT_QUIET = "root_quiet"  # root seen, no parent missing, quiet for rootQuietSecs
    INACTIVE = "inactive"  # quiet for inactivityTimeoutSecs
    MAX_DURATION = "max_duration"  # open for maxTraceDurationSecs
    DECISION_WAIT = "decision_wait"  # open for the decision_wait of a Collector's section
    ROOT_WAIT = "root_wait"  # decision_wait_after_root_received after its root arrived
    SPAN_LIMIT = "span_limit"  # reached maxTraceSpans
    TOO_LARGE = "too_large"  # has more bytes than the maximum_trace_size_bytes of a Collector's section: dropped
    PRESSURE = "pressure"  # the oldest when the buffer was full
    OTHER = "other"  # decided by a replica of a newer version, for a reason that this version does not know

    @classmethod
    def stored(cls, value: str) -> Reason:
        """The reason in a stored decision. One that a newer version stored counts too: its trace must not be decided again
        (law 2)."""
        return cls(value) if value in _VALUES else cls.OTHER


_VALUES = frozenset([each.value for each in Reason])


FORCE = "force"
"""The policy's name for all force rules in routing and metrics. A decision names its rule: `force:NAME`."""


@attrs.frozen(cache_hash=True)
class Decision:
    """The decision about one trace. ``rate`` is the probability with which traces like it are kept, in [0, 1].

    ``policy`` is the policy that decided, or ``force:`` and the rule's name if a force rule did.

    ``destinations`` are the names of the destinations of a kept trace; None means all.

    ``weighted``: the trace's randomness was compared with the threshold of ``rate`` and with nothing else (OTEP 235), so
    the exported spans may say ``ot=th``. True for a force rule too: its traces are kept with probability 1.

    ``ruleset`` is the fingerprint of the ruleset that was in force; empty if it is not known.
    """

    verdict: Verdict
    policy: str
    reason: Reason
    rate: float
    destinations: tuple[str, ...] | None = None
    weighted: bool = True
    ruleset: str = ""
    keeps: bool = attrs.field(init=False, eq=False, repr=False)
    """Whether the trace is kept. It is a field, because it is read several times for each trace."""

    @keeps.default
    def _is_kept(self) -> bool:
        return self.verdict is Verdict.KEEP

    @property
    def rule(self) -> str | None:
        """The name of the force rule that decided; None if a policy did."""
        policy, colon, name = self.policy.partition(":")
        return name if colon and policy == FORCE else None
