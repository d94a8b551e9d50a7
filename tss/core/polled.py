"""The result of one poll of the input topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tss.core.deadletter import DeadLetter
from tss.core.headers import Headers
from tss.core.otlp import Records


@attrs.frozen
class Sample:
    """Some records of a poll whose keys were checked."""

    records: int = 0
    unkeyed: int = 0  # records of several traces, or whose key is not their trace's id
    partitions: int = 0  # of the topic; 0: unknown


@attrs.frozen
class Polled:
    """What one poll brought.

    ``ends`` has the partitions that were read to their end, with the wall time (ms) at which that was true. ``lags`` has
    the partitions whose end is known, with the number of records between the read position and the end.
    """

    wall_ms: int
    records: Records = attrs.field(factory=Records)
    dead_letters: Sequence[DeadLetter] = ()
    ends: Mapping[int, int] = attrs.field(factory=dict)
    lags: Mapping[int, int] = attrs.field(factory=dict)
    headers: Sequence[Headers] = ()  # of each record, if they were asked for
    sample: Sample = Sample()
    read_to: Mapping[int, int] = attrs.field(factory=dict)  # the end offset, by partition in ``ends``, if it is known
    held_bytes: int = 0  # memory of the records
    waiting_bytes: int = 0  # of messages that were fetched and not read yet, and of the last ones written
    remembered_bytes: int = 0  # of answers to values that were met, kept by the scanner
