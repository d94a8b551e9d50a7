"""What a destination answers to a batch."""

from __future__ import annotations

import attrs


@attrs.frozen
class Accepted:
    """Taken for good, but for ``rejected_spans`` of which the destination said it will never take them."""

    rejected_spans: int = 0
    message: str = ""


@attrs.frozen
class Again:
    """Not taken now; the same batch may be sent again, after ``after_secs`` if the destination named a time."""

    reason: str
    detail: str
    after_secs: float | None = None


@attrs.frozen
class Misconfigured:
    """Not taken, and nothing will be until somebody changes a setting (credentials, address): hold, and probe slowly."""

    reason: str
    detail: str


@attrs.frozen
class Rejected:
    """A server answered with an error. Whether the data is wrong or the way, only its other answers show: see `evidence`."""

    reason: str
    detail: str
    blames_data: bool = False  # the status says that the request was wrong, not the server
    after_secs: float | None = None  # when it wants to be asked again, if it named a time


@attrs.frozen
class Undeliverable:
    """This batch can never be taken, whoever is asked: it cannot be written in the form that the destination reads.

    If it holds several traces, some of them may be: halves are tried.
    """

    reason: str
    detail: str


Outcome = Accepted | Again | Misconfigured | Rejected | Undeliverable


@attrs.frozen
class Batching:
    """How a destination likes its batches: up to ``max_traces`` or ``max_bytes`` (one larger trace goes alone), gathered
    for at most ``linger_secs``, ``max_in_flight`` at a time."""

    max_traces: int
    linger_secs: float
    max_in_flight: int = 4
    max_bytes: int = 4 * 1024 * 1024


@attrs.frozen
class Retrying:
    """Full-jitter backoff: the n-th wait is uniform in [0, min(max, initial * 2**n)] seconds.

    After ``quick_tries`` tries again the destination counts as down; it is tried all the same.
    """

    initial_secs: float
    max_secs: float = 30.0
    probe_secs: float = 30.0  # between probes of a misconfigured destination
    quick_tries: int = 3

    def most_secs(self, doublings: int) -> float:
        """The upper bound of a wait after so many doublings; they may go on for days, and 2.0 ** 1024 is no float."""
        return min(self.max_secs, self.initial_secs * 2.0 ** min(doublings, 20))
