"""What is told at `logLevel: debug`: one line a decision, a batch sent, a commit. At any other level it costs a look."""

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

# A line takes some 170 us of the event loop. So no flood of spans can make more of it than two percent a kind.
LINES_A_SEC = 100
MAX_LOOKED_BYTES = 256 * 1024  # of a trace whose services are to be named


def is_told() -> bool:
    """Whether debug lines are wanted: asked for each batch."""
    return bool(log.is_enabled_for(logging.DEBUG))


@attrs.define
class LineAllowance:
    """So many lines a second, and how many were left out."""

    lines_a_sec: int = LINES_A_SEC
    _began: float = -1.0
    _used: int = 0
    _left_out: int = 0

    def take(self, wanted: int) -> int:
        """How many of these may be told now."""
        now = trio.current_time()
        if not 0 <= now - self._began < 1:
            self._began, self._used = now, 0
        taken = min(wanted, self.lines_a_sec - self._used)
        self._used += taken
        self._left_out += wanted - taken
        return taken

    def left_out(self) -> int:
        """How many were left out since this was last asked; 0 while the second lasts in which they were."""
        if trio.current_time() - self._began < 1 and self._used >= self.lines_a_sec:
            return 0
        count, self._left_out = self._left_out, 0
        return count


@attrs.define
class LimitedLines:
    """Tells of one kind of thing."""

    what: str
    _allowance: LineAllowance = attrs.field(factory=LineAllowance)

    def take(self, wanted: int) -> int:
        """How many lines may be written now; says first how many could not be before."""
        if count := self._allowance.left_out():
            log.debug(f"{self.what}: lines left out, there were too many", count=count)
        return self._allowance.take(wanted)


@attrs.define
class DecisionLines:
    """One line for each decided trace, and for what came late of one."""

    _narrator: LimitedLines = attrs.field(factory=lambda: LimitedLines("decisions"))

    def tell(self, *batches: Sequence[Trace]) -> None:
        """These have their decision."""
        if not is_told():
            return
        decided = [trace for batch in batches for trace in batch if trace.decision is not None]
        for trace in decided[: self._narrator.take(len(decided))]:
            _tell(trace)


def _tell(trace: Trace) -> None:
    decision = trace.decision
    assert decision is not None, "others are not told"  # noqa: S101
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
    """Empty where that would cost too much, or where its spans are not here."""
    if not trace.held_spans or trace.payload_bytes > MAX_LOOKED_BYTES:
        return ()
    try:
        return services(trace.chunks())
    except Exception:  # noqa: BLE001  # whatever the bytes are: a line for people is no reason to end
        return ()


@attrs.define
class SendLines:
    """One line for each try to send a batch."""

    destination: str
    _narrator: LimitedLines = attrs.field(factory=lambda: LimitedLines("batches"))

    def tell(self, batch: Sequence[Trace], outcome: Outcome, secs: float) -> None:
        """The destination has answered, or has not."""
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
    """Kafka has these: at most one line a second or so, however many partitions."""
    if is_told():
        log.debug(
            "offsets committed",
            **partition_fields(commits, offsets={id: commit.offset for id, commit in commits.items()}),
        )
