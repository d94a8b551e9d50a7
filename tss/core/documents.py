"""Small documents that all replicas share, with one version for all of them: force rules, and the history of the policies."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

LATEST_SECS = 253_402_300_000.0  # the end of the year 9999, the last that `datetime` can write


@attrs.frozen
class Stored:
    """The store's content: serialized documents by id. ``version`` differs after each change; empty if nothing is stored."""

    version: str
    documents: Mapping[str, bytes]
