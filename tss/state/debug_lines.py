"""The lines of `logLevel: debug`: one for each decision, each batch sent, each commit. Other levels pay one comparison."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import attrs
import structlog
import trio

from tss.core.delivery import Accepted, Outcome
from tss.core.logfields import partition_fields
from tss.core.partition import Commit
from tss.core.services import services
from tss.core.trace import Trace

log = structlog.get_logger()

# A line takes about 170 us of the event loop. This bound keeps each kind of line below two percent of it.
LINES_A_SEC = 100
MAX_LOOKED_BYTES = 256 * 1024  # of a trace whose services are named in its line


def is_told() -> bool:
    """Whether debug lines are wanted. Asked once for each batch."""
    return bool(log.is_enabled_for(logging.DEBUG))


@attrs.define
class LineAllowance:
    """Limits lines to a number each second, and counts those left out."""

    lines_a_sec: int = LINES_A_SEC
    _began: float = -1.0
    _used: int = 0
    _left_out: int = 0

    def take(self, wanted: int) -> int:
        """How many of these lines may be written now."""
        now = trio.current_time()
        if not 0 <= now - self._began < 1:
            self._began, self._used = now, 0
        taken = min(wanted, self.lines_a_sec - self._used)
        self._used += taken
        self._left_out += wanted - taken
        return taken

    def left_out(self) -> int:
        """How many lines were left out since the last call; 0 until the second in which they were left out is over."""
        if trio.current_time() - self._began < 1 and self._used >= self.lines_a_sec:
            return 0
        count, self._left_out = self._left_out, 0
        return count


@attrs.define
class LimitedLines:
    """The limit for one kind of line."""

    what: str
    _allowance: LineAllowance = attrs.field(factory=LineAllowance)

    def take(self, wanted: int) -> int:
        """How many lines may be written now. Logs first how many were left out before."""
        if count := self._allowance.left_out():
            log.debug(f"{self.what}: lines left out, there were too many", count=count)
        return self._allowance.take(wanted)


@attrs.define
class DecisionLines:
    """One line for each decided trace, and one for the late spans of a trace."""

    _narrator: LimitedLines = attrs.field(factory=lambda: LimitedLines("decisions"))

    def tell(self, *batches: Sequence[Trace]) -> None:
        """Log the traces that have a decision."""
        if not is_told():
            return
        decided = [trace for batch in batches for trace in batch if trace.decision is not None]
        for trace in decided[: self._narrator.take(len(decided))]:
            _tell(trace)


def _tell(trace: Trace) -> None:
    decision = trace.decision
    assert decision is not None, "only decided traces are logged"  # noqa: S101
    log.debug(
        "late spans follow their trace" if trace.late else "trace decided",
        trace_id=trace.trace_id.hex(),
        verdict=decision.verdict.value,
        policy=decision.policy,
        reason=decision.reason.value,
        rate=decision.rate,
        spans=trace.spans,
        errors=trace.errors,
        duration_ms=round(trace.duration_ns() / 1e6, 3),
        services=_services(trace),
        partition=trace.home.id,
        offset=trace.first_offset,
        destinations=decision.destinations if decision.destinations is not None else "all" if decision.keeps else (),
    )


def _services(trace: Trace) -> Sequence[str]:
    """The services of the trace; empty if the trace is too large to look through, or if its spans are not in memory."""
    if not trace.held_spans or trace.payload_bytes > MAX_LOOKED_BYTES:
        return ()
    try:
        return services(trace.chunks())
    except Exception:  # noqa: BLE001  # a debug line must not end the daemon, whatever the bytes are
        return ()


@attrs.define
class SendLines:
    """One line for each try to send a batch."""

    destination: str
    _narrator: LimitedLines = attrs.field(factory=lambda: LimitedLines("batches"))

    def tell(self, batch: Sequence[Trace], outcome: Outcome, secs: float) -> None:
        """Log the outcome of one try."""
        if is_told() and self._narrator.take(1):
            taken = isinstance(outcome, Accepted)
            log.debug(
                "batch sent" if taken else "batch not taken",
                destination=self.destination,
                traces=len(batch),
                spans=sum([trace.held_spans for trace in batch]),
                bytes=sum([trace.payload_bytes for trace in batch]),
                secs=round(secs, 3),
                reason="" if isinstance(outcome, Accepted) else outcome.reason,
            )


def tell_commit(commits: Mapping[int, Commit]) -> None:
    """Log a commit that Kafka has taken: one line for all partitions, about once a second."""
    if is_told():
        log.debug(
            "offsets committed",
            **partition_fields(commits, offsets={id: commit.offset for id, commit in commits.items()}),
        )
