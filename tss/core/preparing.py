"""Changes to a kept trace between its decision and its export: duplicates are removed, similar spans compressed, and each
span gets the weight of the decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tss.core.compression import Compression, CompressionSettings
from tss.core.duplicates import without_duplicates
from tss.core.otlp.wire import WireError
from tss.core.weights import Weight, weighed

try:
    from tss.core.otlp.restating import with_states
except ImportError:  # there was no C compiler when this was installed
    from tss.core.otlp.tracestates import with_states


class Prepared(NamedTuple):  # made twice for each kept trace
    """The payload to export, and how many spans were removed or compressed."""

    payload: bytes
    duplicates: int = 0  # removed spans
    compressed_spans: int = 0  # spans that became part of a composite
    groups: int = 0  # composites
    outcomes: Sequence[int] = ()  # how many spans had each outcome of `weighed`


class Preparation:
    """Prepares traces one by one. It has no state, so threads may share it."""

    def __init__(self, compression: CompressionSettings, *, weights: bool = False) -> None:
        self._compression = Compression(compression) if compression.enabled else None
        self.weights = weights

    def prepare(self, payload: bytes, *, complete: bool, weight: Weight | None = None) -> Prepared:
        """A kept trace's serialized `TracesData`, one or several concatenated; the same object if nothing changes.

        `complete`: no parent is missing in the trace, no more spans are expected, and the payload has all its spans; False
        for late spans. `weight` is written on each span, None on none.
        """
        found = self._shortened(payload, complete=complete)
        return found if weight is None else weigh(found, weight)

    def _shortened(self, payload: bytes, *, complete: bool) -> Prepared:
        unique, duplicates = payload, 0
        try:
            unique, duplicates = without_duplicates(payload)
            if self._compression is None:
                return Prepared(unique, duplicates)
            compressed = self._compression.compress(unique, complete=complete)
        except WireError:
            # The scanner does not read everything, links for example. Spans that are broken there are sent unchanged.
            return Prepared(unique, duplicates)
        return Prepared(compressed.payload, duplicates, compressed.spans, compressed.groups)


def weigh(prepared: Prepared, weight: Weight) -> Prepared:
    """The same with the weight on every span. If the bytes are not valid `TracesData`, they stay."""
    try:
        payload, outcomes = with_states(prepared.payload, lambda state: weighed(state, weight))
    except WireError:  # a span that is broken where the scanner does not look
        return prepared
    return Prepared(payload, prepared.duplicates, prepared.compressed_spans, prepared.groups, outcomes)
