"""Whether a refusal is about the data or about the connection, decided by the other answers of the destination.

If a destination refuses one piece of data while it accepts others, the piece is wrong. If it refuses everything, the
destination is in trouble, or its address is wrong, whatever status it answers. So a refusal says something about a piece
only if the destination has accepted something else since the previous attempt: that is the *witness*. Without a witness
the piece is held.

This is the whole rule:

| | batch | single trace |
|---|---|---|
| the answer blames the data (400, 413, 422, 431) | halved at once: each half is a witness for the other | given up after five counted refusals, two of them its own |
| any other answer of the server (500, ...) | halved after five counted refusals | given up after five counted refusals of its own |
| busy, away, no answer in time, wrong credentials | the same, but only after it was refused for 300 s while others were accepted | the same |

A server may refuse at random (one sick backend of three, or one that sheds load). Then it refuses healthy traces while it
accepts others. How often it does so is estimated from the pieces that it refused first and accepted later. Five refusals are
enough while that is rare. If it is frequent, a single trace is given up only when a healthy trace would be refused so often
with a probability of at most one in ten million.

The first refusal counts, and each refusal with a witness. A half inherits the counted refusals of the whole, so one more
counted refusal halves it again. While everything is refused, a larger piece is halved too when it is used as a probe.
Halving costs nothing, and a half that is accepted is the missing witness. If the answer blames the connection, this happens
after five refusals in a row: a firewall may object to each batch, or the server may be too slow for large ones.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Generic, Self, TypeVar

import attrs

from tss.core.delivery import Again, Misconfigured, Rejected

T = TypeVar("T")

TRIES = 5
OWN_TRIES = 2  # of a single trace, if the answer blames the data
WAY_SECS = 300.0
CHANCE = 1e-7  # that a healthy trace is given up if the destination refuses at random; small, because that rate is an estimate
FORGETS = 0.998  # the estimate of random refusals is multiplied by this with each accepted piece
# If there is no other data to send, an empty request may be the witness. A server that accepts it may still refuse all data,
# so only this many traces may be given up because of empty requests until data is accepted again.
KNOCKS = 10
# The most pieces that wait without a witness. A batch of 1,000 makes eleven when it is halved down to one trace; more pieces
# would only cause small requests after the destination is back. The smallest piece is halved even at this limit: if a tenth
# of all traces is refused, only pieces of a few traces can be accepted.
MAX_PROBES = 16


class Blame(enum.IntEnum):
    """What an answer alone blames. `Evidence` decides."""

    DATA = 0
    NOBODY = 1
    WAY = 2


def blame_of(outcome: Rejected | Again | Misconfigured) -> Blame:
    """What this answer blames."""
    if isinstance(outcome, Rejected):
        return Blame.DATA if outcome.blames_data else Blame.NOBODY
    return Blame.WAY


@attrs.define(eq=False)
class Whole:
    """The memory of a piece that was halved. It has no items, so that accepted items can be freed."""

    own: int
    whole: Whole | None
    halves: int = 2  # that are not accepted yet


@attrs.define(eq=False)
class Piece(Generic[T]):
    """A batch, a part of a batch, or a single trace, with the refusals that count against it."""

    items: Sequence[T] = attrs.field(repr=lambda items: str(len(items)))
    tries: int = 0  # refused attempts to send exactly this piece
    counted: int = 0  # counted refusals, with those of the larger pieces that it was part of
    own: int = 0  # counted refusals of exactly this piece
    alone: int = 0  # refusals in a row without a witness between them
    witnessed_at: float = math.inf  # when it was first refused with a witness
    reason: str = ""  # of the last refusal
    detail: str = ""
    blame: Blame = Blame.NOBODY
    seen: int = -1  # how many pieces the destination had accepted when it last refused this one
    whole: Whole | None = attrs.field(default=None, repr=False)  # the piece that this is a half of

    @property
    def is_singled_out(self) -> bool:
        """Whether other data was accepted between its last two refusals."""
        return self.alone <= 1 < self.counted

    def halves(self) -> list[Self]:
        """Two pieces that inherit the counted refusals of this one."""
        middle = len(self.items) // 2
        whole = Whole(self.own, self.whole)
        return [
            attrs.evolve(self, items=half, tries=0, own=0, whole=whole)
            for half in (self.items[:middle], self.items[middle:])
        ]


class NextStep(enum.Enum):
    """What to do with a piece that was refused."""

    HOLD = "hold"
    HALVE = "halve"
    GIVE_UP = "give up"


class Evidence:
    """The answers of one destination. ``now`` is in seconds, of a monotonic clock."""

    def __init__(self) -> None:
        self.taken = 0  # pieces
        self.knocks = KNOCKS  # traces that may still be given up because of an accepted empty request
        self._wrongly = 0.0  # recent refusals of pieces that it accepted later
        self._rightly = 0.0  # recent accepted pieces

    def __repr__(self) -> str:
        return f"<Evidence {self.taken} taken, {self.knocks} knocks left>"

    def takes(self, piece: Piece[T] | None = None) -> None:
        """The destination accepted a piece. Its earlier refusals of this piece were wrong, and so were those of a larger
        piece of which it now has all parts.
        """
        self._rightly = self._rightly * FORGETS + 1
        self._wrongly *= FORGETS
        if piece is not None:
            self._wrongly += piece.own
            whole = piece.whole
            while whole is not None:
                whole.halves -= 1
                if whole.halves:
                    break
                self._wrongly += whole.own
                whole = whole.whole
        self.taken += 1
        self.knocks = KNOCKS

    def has_witness(self, piece: Piece[T]) -> bool:
        """Whether something else was accepted since the piece was last refused."""
        return self.taken > piece.seen

    def wants_knock(self, piece: Piece[T]) -> bool:
        """Whether an empty request before the next attempt with this piece would be a witness."""
        return (
            len(piece.items) == 1
            and piece.tries > 0
            and piece.blame is Blame.DATA
            and self.knocks > 0
            and not self.has_witness(piece)
        )

    def refuses(
        self, piece: Piece[T], outcome: Rejected | Again | Misconfigured, now: float, *, knocked: bool = False
    ) -> bool:
        """The destination refused the piece. Returns whether this counts against the piece. ``knocked``: the destination
        accepted an empty request just before.
        """
        first, seen = piece.seen < 0, self.has_witness(piece) and piece.seen >= 0
        piece.blame = blame_of(outcome)
        piece.reason, piece.detail = outcome.reason, outcome.detail
        weakly = knocked and piece.blame is Blame.DATA and self.knocks > 0
        counts = first or seen or weakly
        piece.tries += 1
        piece.counted += counts
        piece.own += counts
        if seen or weakly:
            piece.alone = 1
            piece.witnessed_at = min(piece.witnessed_at, now)
        else:
            piece.alone += 1
        piece.seen = self.taken
        if not seen and weakly and self._is_guilty(piece, now):
            self.knocks -= 1
        return counts

    def next_step(
        self, piece: Piece[T], now: float, *, counts: bool, probes: int | None, is_smallest: bool = False
    ) -> NextStep:
        """What to do with a piece that was just refused.

        ``counts``: the result of `refuses`. ``probes``: how many pieces wait without a witness while the destination
        accepts nothing; None while it accepts something. ``is_smallest``: no waiting piece is smaller.
        """
        if counts and self._is_guilty(piece, now):
            return NextStep.GIVE_UP if len(piece.items) == 1 else NextStep.HALVE
        if len(piece.items) == 1 or (piece.blame is Blame.WAY and piece.alone < TRIES):
            return NextStep.HOLD
        if piece.blame is Blame.DATA and probes is None:
            return NextStep.HALVE
        return NextStep.HALVE if probes is not None and (probes < MAX_PROBES or is_smallest) else NextStep.HOLD

    def _is_guilty(self, piece: Piece[T], now: float) -> bool:
        if piece.blame is Blame.WAY and not now - piece.witnessed_at >= WAY_SECS:
            return False
        if len(piece.items) > 1:
            return piece.counted >= TRIES
        if piece.counted < TRIES or piece.own < (OWN_TRIES if piece.blame is Blame.DATA else TRIES):
            return False
        return self.random_refusal_rate**piece.counted <= CHANCE

    @property
    def random_refusal_rate(self) -> float:
        """The estimated rate of random refusals: of pieces that it would accept at another time. 0 to 1."""
        return self._wrongly / max(1.0, self._wrongly + self._rightly)
