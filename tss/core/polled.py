"""The result of one poll of the input topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tss.core.deadletter import DeadLetter
from tss.core.record import Headers, Record


@attrs.frozen
class Sample:
    """Of the records of a poll a few, looked at for their keys."""

    records: int = 0
    unkeyed: int = 0  # of several traces, or with another key than their trace's id
    partitions: int = 0  # of the topic; 0: not known


@attrs.frozen
class Polled:
    """One look at the topic.

    ``ends`` maps partitions with nothing more to read to the wall time (ms) up to which that is known; ``lags``
    maps partitions whose end is known to the number of records between the read position and it.
    """

    wall_ms: int
    records: Sequence[Record] = ()
    dead_letters: Sequence[DeadLetter] = ()
    ends: Mapping[int, int] = attrs.field(factory=dict)
    lags: Mapping[int, int] = attrs.field(factory=dict)
    headers: Sequence[Headers] = ()  # of each record, where they were asked for
    sample: Sample = Sample()
    read_to: Mapping[int, int] = attrs.field(factory=dict)  # the log's end, by partition in ``ends``, where it is known
    held_bytes: int = 0  # by the records
    waiting_bytes: int = 0  # of what has come and was not read yet, and of what was written last
