"""Delivery to a destination: its answer to a batch, the size of a batch, and how failed attempts are repeated."""

from __future__ import annotations

import attrs


@attrs.frozen
class Accepted:
    """The destination has the batch. It rejected ``rejected_spans`` of its spans for good, and says why in ``message``."""

    rejected_spans: int = 0
    message: str = ""


@attrs.frozen
class Again:
    """The destination cannot take the batch now. Retry the same batch, after ``after_secs`` if the destination named a time."""

    reason: str
    detail: str
    after_secs: float | None = None


@attrs.frozen
class Misconfigured:
    """The destination takes nothing until somebody changes a setting (credentials, address). Hold the batch; probe slowly."""

    reason: str
    detail: str


@attrs.frozen
class Rejected:
    """The server answered with an error. Only its other answers show whether the data or the connection is wrong: see `evidence`."""

    reason: str
    detail: str
    blames_data: bool = False  # the status says that the request was wrong, not the server
    after_secs: float | None = None  # the retry time that it named, if any


@attrs.frozen
class Undeliverable:
    """No attempt can deliver this batch: it cannot be encoded in the form that the destination reads.

    If the batch holds several traces, each half is tried, because some of its traces may be deliverable.
    """

    reason: str
    detail: str


Outcome = Accepted | Again | Misconfigured | Rejected | Undeliverable


@attrs.frozen
class Batching:
    """The limits of a batch: ``max_traces``, ``max_bytes`` (a larger trace is a batch of its own), and ``linger_secs`` of
    waiting for more traces. At most ``max_in_flight`` batches are under way at a time."""

    max_traces: int
    linger_secs: float
    max_in_flight: int = 4
    max_bytes: int = 4 * 1024 * 1024


@attrs.frozen
class Retrying:
    """The bounds of exponential backoff. The caller draws the wait, usually uniform in [0, ``most_secs``] (full jitter).

    After ``quick_tries`` retries the destination counts as down; the retries go on.
    """

    initial_secs: float
    max_secs: float = 30.0
    probe_secs: float = 30.0  # between probes of a destination that is misconfigured
    quick_tries: int = 3

    def most_secs(self, doublings: int) -> float:
        """The upper bound of a wait, in seconds. ``doublings`` may grow for days, and 2.0 ** 1024 would overflow."""
        return min(self.max_secs, self.initial_secs * 2.0 ** min(doublings, 20))
