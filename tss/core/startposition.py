"""Where reading of an assigned partition begins, and what is already known of its traces."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tss.core.output_traces import OutputTrace
from tss.core.parked import ParkingCheckpoint, Shelf, Summary
from tss.core.timeline import Entry


@attrs.frozen
class StartPosition:
    """Reading of an assigned partition begins at ``replay_from``; records below ``offset`` are settled.

    ``since_ms`` was committed beside the offset (see ``Commit``). ``output_traces`` are the traces that the output topic has
    had since then. ``end`` is the offset after the last record, None if the brokers did not tell it.
    """

    offset: int
    replay_from: int
    committed: bool  # whether the group has committed this offset
    since_ms: int | None = None
    output_traces: Mapping[bytes, OutputTrace] = attrs.field(factory=dict, repr=lambda known: str(len(known)))
    end: int | None = attrs.field(default=None, eq=False)  # records arrive meanwhile
    # Committed beside the offset. Reading can begin at the offset only if Redis still has this state.
    parked: ParkingCheckpoint | None = None
    shelf: Shelf | None = None  # taken over, under a token of this assignment
    topic: str = attrs.field(default="", eq=False)  # the topic's id; empty if unknown
    rules: tuple[Entry, ...] = ()  # the partition's timeline, committed beside the offset
    anew: bool = False  # the topic was deleted and created again: facts about offsets of the old topic do not hold
    summaries: Mapping[bytes, Summary] = attrs.field(factory=dict, repr=lambda parked: str(len(parked)))
    why: str = attrs.field(default="", eq=False)  # reading begins there; for the daemon's log

    def told(self) -> str:
        """Where reading begins and why, as text for the daemon's log."""
        why = self.why or ("committed offset" if self.committed else "no committed offset")
        if self.replay_from < self.offset:
            return f"{why}: starting at {self.offset}, replay from {self.replay_from}"
        return f"{why}: starting at {self.offset}"

    def at_floor(self) -> StartPosition:
        """The same without parked traces: their records are read again, from the oldest one."""
        floor = self.offset if self.parked is None else min(self.offset, self.parked.floor)
        return attrs.evolve(self, offset=floor, replay_from=min(floor, self.replay_from))
