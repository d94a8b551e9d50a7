"""Changes to a kept trace between its decision and its export: duplicates are removed, similar spans compressed."""

from __future__ import annotations

import attrs

from tss.core.compression import Compression, CompressionSettings
from tss.core.duplicates import without_duplicates
from tss.core.otlp.wire import WireError


@attrs.frozen
class Prepared:
    """The payload to export, and how many spans were removed or compressed."""

    payload: bytes
    duplicates: int = 0  # removed spans
    compressed_spans: int = 0  # spans that became part of a composite
    groups: int = 0  # composites


class Preparation:
    """Prepares traces one by one. It has no state, so threads may share it."""

    def __init__(self, compression: CompressionSettings) -> None:
        self._compression = Compression(compression) if compression.enabled else None

    def prepare(self, payload: bytes, *, complete: bool) -> Prepared:
        """A kept trace's serialized `TracesData`, one or several concatenated; the same object if nothing changes.

        `complete`: no parent is missing in the trace, no more spans are expected, and the payload has all its spans; False
        for late spans.
        """
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
