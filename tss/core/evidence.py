"""What the answers of a destination say: that the data is wrong, or the way to it.

A destination that refuses one piece of data while it takes others finds fault with that piece. One that refuses everything is
itself in trouble, or the address is wrong, whatever status it answers with. So a refusal says something about a piece only if
the destination took something else since the try before: that is its *witness*. Without one the piece is held.

The rule, in one place:

| | batch | single trace |
|---|---|---|
| the answer blames the data (400, 413, 422, 431) | halved at once: its halves are each other's witnesses | given up after five counted refusals, two of them its own |
| any other answer of the server (500, ...) | halved after five counted refusals | given up after five counted refusals of its own |
| busy, away, no answer in time, wrong credentials | the same, and not before it was refused for 300 s while others were taken | the same |

A server that refuses at random (one sick backend of three, one that sheds load) refuses healthy traces as well, while it takes
others. How often is known from what it refused and took later. Five refusals are enough while that is rare; where it is not, a
single trace is given up when only one healthy one in ten million would be refused so often.

The first refusal counts, and each one with a witness. A half takes over what counted against the whole, so one more counted
refusal halves it again. While everything is refused, a larger piece is halved too when it is used as a probe: to halve costs
nothing, and a half that is taken is the witness that was missing. Where the answer blames the way, after five refusals in a row:
it may be a firewall that finds something in each batch, or a server too slow for large ones.
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
OWN_TRIES = 2  # of a single trace, where the answer blames the data
WAY_SECS = 300.0
CHANCE = 1e-7  # that a healthy trace is given up where the destination refuses at random; small, for how often it does is estimated
FORGETS = 0.998  # of what is known of its moods, with each piece that it takes
# Without other data to send, an empty request may be the witness. A server that takes it may refuse all data, so only a few
# traces may be given up on its word until data is taken again.
KNOCKS = 10
# Pieces that wait without a witness. A batch of 1,000 gives eleven when it is halved down to one trace; more would only make
# small requests when the destination is back. The smallest of them is halved all the same: where a tenth of all traces is
# refused, only pieces of a few traces can be taken.
MAX_PROBES = 16


class Blame(enum.IntEnum):
    """Whom an answer blames by itself; evidence decides."""

    DATA = 0
    NOBODY = 1
    WAY = 2


def blame_of(outcome: Rejected | Again | Misconfigured) -> Blame:
    """Whom this answer blames."""
    if isinstance(outcome, Rejected):
        return Blame.DATA if outcome.blames_data else Blame.NOBODY
    return Blame.WAY


@attrs.define(eq=False)
class Whole:
    """What is remembered of a piece that was halved: not its items, which are let go as they are taken."""

    own: int
    whole: Whole | None
    halves: int = 2  # that are not taken yet


@attrs.define(eq=False)
class Piece(Generic[T]):
    """A batch, a part of one, or a single trace; and what counts against it."""

    items: Sequence[T] = attrs.field(repr=lambda items: str(len(items)))
    tries: int = 0  # of this very piece, that were refused
    counted: int = 0  # refusals that count, those of the larger pieces it was part of too
    own: int = 0  # of these, its own
    alone: int = 0  # refusals in a row, with no witness between them
    witnessed_at: float = math.inf  # when it was first refused with a witness
    reason: str = ""  # of the last refusal
    detail: str = ""
    blame: Blame = Blame.NOBODY
    seen: int = -1  # what the destination had taken when it last refused this
    whole: Whole | None = attrs.field(default=None, repr=False)  # that it is a half of

    @property
    def is_told_apart(self) -> bool:
        """Whether other data was taken between its last two refusals."""
        return self.alone <= 1 < self.counted

    def halves(self) -> list[Self]:
        """Two pieces that inherit what counts against this one."""
        middle = len(self.items) // 2
        whole = Whole(self.own, self.whole)
        return [
            attrs.evolve(self, items=half, tries=0, own=0, whole=whole)
            for half in (self.items[:middle], self.items[middle:])
        ]


class NextStep(enum.Enum):
    """What becomes of a piece that was refused."""

    HOLD = "hold"
    HALVE = "halve"
    GIVE_UP = "give up"


class Evidence:
    """All that one destination has answered. ``now`` is in seconds, of any clock that does not go back."""

    def __init__(self) -> None:
        self.taken = 0  # pieces
        self.knocks = KNOCKS  # traces that may still be given up on the word of an empty request
        self._wrongly = 0.0  # refusals of what it took later, and
        self._rightly = 0.0  # pieces taken; of late

    def __repr__(self) -> str:
        return f"<Evidence {self.taken} taken, {self.knocks} knocks left>"

    def takes(self, piece: Piece[T] | None = None) -> None:
        """The destination took a piece. What it refused before, of this or of a larger one that it now has all of, it refused
        for nothing.
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
        """Whether something else was taken since the piece was last refused."""
        return self.taken > piece.seen

    def wants_knock(self, piece: Piece[T]) -> bool:
        """Whether an empty request before the next try of this piece would tell something."""
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
        """The destination refused the piece; ``knocked``: just before, it took an empty request. Whether this counts against
        the piece.
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
        """What becomes of a piece that was just refused. ``counts``: as `refuses` said; ``probes``: how many pieces wait
        without a witness, while the destination takes nothing; None while it takes something. ``is_smallest`` of those
        that wait.
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
        return self.caprice**piece.counted <= CHANCE

    @property
    def caprice(self) -> float:
        """How often it refuses what it would take at another time, 0 to 1."""
        return self._wrongly / max(1.0, self._wrongly + self._rightly)
