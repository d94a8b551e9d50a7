"""Shows the tally as metrics. Each series reads its number at the scrape, so counting costs no look-up of labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter

from tss.core import measures
from tss.core.decision import Verdict
from tss.core.measures import Measure, Meter
from tss.core.tally import OfPolicy, Tally

_Read = Callable[[object], float]

_OF_POLICY: tuple[tuple[Measure, _Read, tuple[str, ...]], ...] = (
    (measures.POLICY_EVALUATED, attrgetter("evaluated"), ()),
    (measures.POLICY_MATCHED, attrgetter("matched"), ()),
    (measures.POLICY_KEPT, attrgetter("kept"), ()),
    (measures.POLICY_DROPPED, attrgetter("dropped"), ()),
    (measures.POLICY_SPANS, attrgetter("spans_kept"), (Verdict.KEEP.value,)),
    (measures.POLICY_SPANS, attrgetter("spans_dropped"), (Verdict.DROP.value,)),
    (measures.POLICY_BYTES, attrgetter("bytes_kept"), (Verdict.KEEP.value,)),
    (measures.POLICY_BYTES, attrgetter("bytes_dropped"), (Verdict.DROP.value,)),
    (measures.POLICY_SECONDS, attrgetter("seconds"), ()),
)
_OF_SERVICE: tuple[tuple[Measure, _Read, tuple[str, ...]], ...] = (
    (measures.SERVICE_TRACES, attrgetter("traces"), ()),
    (measures.SERVICE_KEPT, attrgetter("kept"), ()),
    (measures.SERVICE_BYTES_IN, attrgetter("bytes_in"), ()),
    (measures.SERVICE_BYTES_OUT, attrgetter("bytes_out"), ()),
)


def show_new(tally: Tally, meter: Meter) -> None:
    """Show the policies and services that were counted for the first time since the last call."""
    for counts in tally.take_new():
        for measure, read, labels in _OF_POLICY if isinstance(counts, OfPolicy) else _OF_SERVICE:
            meter.watch(measure, partial(read, counts), counts.name, *labels)
