"""Dead letters in the daemon's log, at level error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256

import structlog

from tss.core.deadletter import DeadLetter
from tss.core.formats.dead_letter import line
from tss.edges import logs
from tss.edges.dead_letters.errors import NotKept
from tss.edges.files.dead_letters import utc_now

log = structlog.get_logger()

LOG_SECS = 5.0  # for stderr to take one part of a letter
# Container runtimes cut a log's lines at 16 KiB, and so does `logs` with any text; each quote in a part becomes two characters.
LOG_PART_CHARS = 7000


class DeadLetterLog:
    """Blocking: call it from one thread at a time.

    A letter is the line that the file would have, cut into parts that can be joined again. `logs` drops other lines while
    nobody reads stderr. A letter counts as kept only once stderr has all its parts.
    """

    name = "log"

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Stderr has all letters when this returns. Raises NotKept with those that it does not have."""
        now = self._clock()
        for number, letter in enumerate(letters):
            if not self._keep(letter, now):
                raise NotKept(
                    letters[number:], f"log: stderr did not take it within {LOG_SECS:g} s; check who reads it"
                )

    def _keep(self, letter: DeadLetter, now: datetime) -> bool:
        text = line(letter, now)
        about = {"reason": letter.reason, "detail": letter.detail, "letter": sha256(text.encode()).hexdigest()[:16]}
        starts = range(0, len(text), LOG_PART_CHARS)
        dropped = logs.dropped()
        for number, start in enumerate(starts, 1):
            # One part at a time, since a letter may be larger than the log's queue.
            if not logs.flush(LOG_SECS):
                return False
            part = text[start : start + LOG_PART_CHARS]
            log.error("dead letter", **about, part=number, parts=len(starts), text=part)
        # The dropped line may be another one. Then the letter is tried again, and stands in the log twice.
        return logs.flush(LOG_SECS) and logs.dropped() == dropped

    def close(self) -> None:
        """Nothing is open."""
