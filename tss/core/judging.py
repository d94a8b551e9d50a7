"""Finds the ruleset that decides a closed trace, and makes sure that the trace's facts are answers to its questions."""

from __future__ import annotations

from collections.abc import Callable

from tss.core.buffer import Buffer
from tss.core.combining import Sampler
from tss.core.conditions.program import Program
from tss.core.otlp import Scanner
from tss.core.partition import Partition
from tss.core.trace import Trace

MAX_SCANNERS = 16  # one for each program that closed traces have to be scanned with; there are few


class Judge:
    """Chooses the sampler of each trace."""

    __slots__ = ("_buffer", "_choose", "_scanners", "why")

    def __init__(self, buffer: Buffer, choose: Callable[[Trace], Sampler | None]) -> None:
        """``choose``: the sampler in force when the trace closed; None if it is not known any more."""
        self._buffer = buffer
        self._choose = choose
        self._scanners: dict[str, Scanner] = {}  # by the fingerprint of the program
        self.why = ""  # why `of` found none the last time: `rules` are unknown, or `spans` are missing

    def held(self, batch: list[Trace]) -> list[Trace]:
        """The traces of these that cannot be decided yet: Kafka has not taken a commit that names the ruleset that decides
        them (see `Partition.ruled_to`)."""
        found: list[Trace] = []
        for trace in batch:
            home: Partition = trace.home
            if trace.closed_second >= home.ruled_to and trace.decision is None:
                found.append(trace)
        return found

    def of(self, trace: Trace) -> Sampler | None:
        """The sampler that decides this closed trace, whose spans are in memory as far as this replica has them. None: no
        decision can be made here, because the ruleset is unknown, or spans are missing that it asks about."""
        sampler = self._sampler(trace)
        if sampler is None:
            self.why = "rules"
            return None
        if trace.knows(sampler.program) or self._learn(trace, sampler.program):
            return sampler
        self.why = "spans"
        return None

    def lacks_spans(self, trace: Trace) -> bool:
        """Whether the trace can only be decided once its parked spans are here."""
        sampler = self._sampler(trace)
        return sampler is not None and not trace.knows(sampler.program) and not trace.can_tell(sampler.program)

    def _sampler(self, trace: Trace) -> Sampler | None:
        home: Partition = trace.home
        if trace.closed_second >= home.sampler_from:  # mostly the last change is long over
            known: Sampler | None = home.sampler
            return known
        return self._choose(trace)

    def _learn(self, trace: Trace, program: Program) -> bool:
        """Make the facts that this program asks for. False if they cannot be made."""
        if trace.can_tell(program):
            self._buffer.translate(trace, program)
            return True
        if trace.is_parked() or not trace.has_all_spans():
            return False
        scanner = self._scanners.get(program.fingerprint)
        if scanner is None:
            if len(self._scanners) >= MAX_SCANNERS:
                self._scanners.clear()
            scanner = self._scanners[program.fingerprint] = Scanner(program)
        self._buffer.rescan(trace, scanner, program)
        return True
