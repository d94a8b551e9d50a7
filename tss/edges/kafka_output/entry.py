"""What a transaction writes: entries, one for each trace, ready to be sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

RecordHeaders = Sequence[tuple[str, bytes]]
Covers = Mapping[int, Sequence[int]]
"""By partition of the input topic, the offsets of the records that the spans came in."""


@attrs.frozen
class Entry:
    """The spans of one trace. A transaction has all records of an entry."""

    trace_id: bytes  # the key of its records
    covers: Covers
    stamp_ms: int | None  # the timestamp of its records; None: that of the transaction
    records: Sequence[tuple[bytes, RecordHeaders]] = attrs.field(repr=lambda records: f"{len(records)} records")
