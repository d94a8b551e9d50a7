"""Where reading of an assigned partition begins, and what is already known of its traces."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tss.core.output_traces import OutputTrace
from tss.core.parked import ParkingCheckpoint, Shelf, Summary


@attrs.frozen
class StartPosition:
    """Where an assigned partition is taken up: read from ``replay_from``, settled below ``offset``.

    ``since_ms`` is what was committed beside the offset (see ``Commit``), ``delivered`` what the output topic has from
    there on. ``end`` is the offset after the last record there was, None where the brokers did not tell.
    """

    offset: int
    replay_from: int
    committed: bool  # whether the group had an offset there
    since_ms: int | None = None
    delivered: Mapping[bytes, OutputTrace] = attrs.field(factory=dict, repr=lambda known: str(len(known)))
    end: int | None = attrs.field(default=None, eq=False)  # it moves while one looks
    parked: ParkingCheckpoint | None = None  # what was committed beside the offset: it is enough only if Redis has that
    shelf: Shelf | None = None  # taken over, under a token of ours
    topic: str = attrs.field(default="", eq=False)  # the id of the topic that it is of; empty where that is not known
    anew: bool = False  # the topic was made again: what is known of records of the partition is of another topic's
    summaries: Mapping[bytes, Summary] = attrs.field(factory=dict, repr=lambda parked: str(len(parked)))
    why: str = attrs.field(default="", eq=False)  # it begins there, for the log

    def told(self) -> str:
        """Where it begins and why, in words."""
        why = self.why or ("committed offset" if self.committed else "no committed offset")
        if self.replay_from < self.offset:
            return f"{why}: starting at {self.offset}, replay from {self.replay_from}"
        return f"{why}: starting at {self.offset}"

    def at_floor(self) -> StartPosition:
        """Without what was parked: read again, and held, from where the oldest of that begins."""
        floor = self.offset if self.parked is None else min(self.offset, self.parked.floor)
        return attrs.evolve(self, offset=floor, replay_from=min(floor, self.replay_from))
