"""What is done to a kept trace between its decision and its export: duplicates go, runs of alike spans become one."""

from __future__ import annotations

import attrs

from tss.core.compression import Compression, CompressionSettings
from tss.core.duplicates import without_duplicates
from tss.core.otlp.wire import WireError


@attrs.frozen
class Prepared:
    """What goes out, and what became of the rest."""

    payload: bytes
    duplicates: int = 0  # spans that were there already
    compressed_spans: int = 0  # spans that are in composites now
    groups: int = 0  # composites


class Preparation:
    """Prepares traces one by one. Keeps nothing from one to the next, so that threads may share it."""

    def __init__(self, compression: CompressionSettings) -> None:
        self._compression = Compression(compression) if compression.enabled else None

    def prepare(self, payload: bytes, *, complete: bool) -> Prepared:
        """A kept trace's serialized `TracesData`, one or several concatenated; the very same object if nothing changes.

        `complete`: it was closed as `root_quiet`, and this is all of it; False for late spans.
        """
        unique, duplicates = payload, 0
        try:
            unique, duplicates = without_duplicates(payload)
            if self._compression is None:
                return Prepared(unique, duplicates)
            compressed = self._compression.compress(unique, complete=complete)
        except WireError:
            # The scanner does not look into everything, such as links. Spans that are broken in there go as they came.
            return Prepared(unique, duplicates)
        return Prepared(compressed.payload, duplicates, compressed.spans, compressed.groups)
