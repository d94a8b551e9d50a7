"""What can be decided of a trace, and why."""

from __future__ import annotations

import enum

import attrs


class Verdict(enum.Enum):
    """What happens to a trace."""

    KEEP = "keep"
    DROP = "drop"


class Reason(enum.Enum):
    """Why a trace was decided when it was. The value is the metric label, the log field and the answer of a look-up."""

    ROOT_QUIET = "root_quiet"  # root seen, no parent missing, quiet for rootQuietSecs
    INACTIVE = "inactive"  # quiet for inactivityTimeoutSecs
    MAX_DURATION = "max_duration"  # open for maxTraceDurationSecs
    SPAN_LIMIT = "span_limit"  # reached maxTraceSpans
    PRESSURE = "pressure"  # the oldest when the buffer was full


@attrs.frozen(cache_hash=True)
class Decision:
    """The one ending of a trace. ``rate`` is the probability with which traces like it are kept, in [0, 1].

    ``policy`` is ``force:`` and the rule's name where a force rule had the last word.

    ``destinations`` are the names of those that a kept trace goes to; None is all of them.
    """

    verdict: Verdict
    policy: str
    reason: Reason
    rate: float
    destinations: tuple[str, ...] | None = None
    keeps: bool = attrs.field(init=False, eq=False, repr=False)
    """Whether the trace goes to the destinations. A field, for it is read several times for each trace."""

    @keeps.default
    def _is_kept(self) -> bool:
        return self.verdict is Verdict.KEEP
