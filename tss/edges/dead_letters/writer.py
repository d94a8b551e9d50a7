"""Brings dead letters to their target, or to the log: none is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog
import trio

from tss.core import measures
from tss.core.deadletter import DeadLetter
from tss.core.health import DEAD_LETTERS, Health
from tss.core.measures import Meter
from tss.edges.dead_letters.breaker import TO_THE_LOG, DeadLetterBreaker
from tss.edges.dead_letters.errors import NotKept
from tss.edges.dead_letters.log import DeadLetterLog
from tss.edges.dead_letters.topic import DeadLetterTopic
from tss.edges.files.dead_letters import DeadLetterFile
from tss.edges.files.lines import CannotOpen
from tss.settings import DeadLetterSettings

log = structlog.get_logger()

PAUSES_SECS = (
    0.5,
    2.0,
)  # between three tries: long enough for a broker's election or a file's rotation, not for an outage
# For all tries together: the caller reads or delivers, and does neither meanwhile. Then the letters go to the log.
TRIES_SECS = 4.0
PROBE_SECS = 1.0  # for the single try of a probe

Target = DeadLetterFile | DeadLetterTopic | DeadLetterLog


class DeadLetterWriter:
    """Writes letters to their target. Letters that it does not take in three tries go to the log.

    While a target takes nothing, letters go to the log at once, and one `put` now and then tries the target. No `put` waits
    longer than `TRIES_SECS` for it. If a try is still running then, its letters may be in the target and in the log.
    """

    def __init__(
        self, target: Target, meter: Meter, limiter: trio.CapacityLimiter, health: Health, chance: random.Random
    ) -> None:
        """``limiter`` has one token. Each call of the target holds it, even if nobody waits for its thread any more."""
        self._target = target
        self._log = DeadLetterLog()
        self._meter = meter
        self._limiter = limiter
        self._log_limiter = trio.CapacityLimiter(1)  # so that a target that hangs does not keep letters from the log
        self._health = health
        self._breaker = None if isinstance(target, DeadLetterLog) else DeadLetterBreaker(health, chance)
        self._is_down = False  # neither the target nor the log took the last letters

    def __repr__(self) -> str:
        return f"<DeadLetterWriter to {self._target.name} {self._breaker or ''}>"

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once each letter is in the target or in the log. Never raises."""
        left = letters if self._breaker is None else await self._try_target(letters, self._breaker)
        while left:  # there is no third place, and a letter that nobody has must not be settled (law 1)
            left, trouble = await self._try(left, self._log, self._log_limiter)
            if trouble is not None:
                self._is_down = True
                self._health.down(DEAD_LETTERS, f"nothing takes them, so their records wait: {trouble}")
            await trio.sleep(PAUSES_SECS[-1] if left else 0)
        self._all_kept()

    def _all_kept(self) -> None:
        if not self._is_down:
            return
        self._is_down = False
        if self._breaker is not None and self._breaker.is_open:
            self._health.degraded(DEAD_LETTERS, TO_THE_LOG)
        else:
            self._health.up(DEAD_LETTERS)

    async def _try_target(self, letters: Sequence[DeadLetter], breaker: DeadLetterBreaker) -> Sequence[DeadLetter]:
        """Returns the letters that the target did not keep."""
        is_probe = breaker.is_open
        if is_probe and (self._limiter.borrowed_tokens or not breaker.takes_probe()):
            return letters
        secs, pauses = (PROBE_SECS, ()) if is_probe else (TRIES_SECS, PAUSES_SECS)
        left, trouble = letters, NotKept(letters, f"no answer within {secs:g} s")
        with trio.move_on_after(secs):
            for pause in (0.0, *pauses):
                await trio.sleep(pause)
                if breaker.is_open and not is_probe:  # another call found the target away meanwhile
                    return left
                left, failure = await self._try(left, self._target, self._limiter)
                trouble = failure or trouble
                if not left or trouble.for_good:  # it has answered
                    breaker.works()
                    return left
        if len(left) == len(letters):  # a target that took some letters is not away
            breaker.fails(str(trouble))
        return left

    async def _try(
        self, letters: Sequence[DeadLetter], target: Target, limiter: trio.CapacityLimiter
    ) -> tuple[Sequence[DeadLetter], NotKept | None]:
        """Try once. Returns the letters that were not kept, and why."""
        trouble: NotKept | None = None
        try:
            # Abandoned when cancelled: a disk may hang for good, and neither reading nor a stop may wait for it.
            await trio.to_thread.run_sync(partial(target.keep, letters), limiter=limiter, abandon_on_cancel=True)
        except NotKept as error:
            trouble = error
        except OSError as error:
            trouble = NotKept(letters, f"{error.filename}: {error.strerror}")
        except Exception as error:  # noqa: BLE001  # an error that nobody foresaw must not lose letters
            trouble = NotKept(letters, f"{type(error).__name__}: {error}")
        left = trouble.letters if trouble else ()
        if trouble:
            log.warning("dead letters not taken", place=target.name, letters=len(left), detail=str(trouble))
        lost = {id(letter) for letter in left}
        self._count([letter for letter in letters if id(letter) not in lost], target.name)
        return left, trouble

    def _count(self, letters: Sequence[DeadLetter], target: str) -> None:
        for reason, number in Counter(letter.reason for letter in letters).items():
            self._meter.count(measures.DEAD_LETTERS, number, reason, target)


@asynccontextmanager
async def open_dead_letters(
    settings: DeadLetterSettings, connection: Mapping[str, object], meter: Meter, health: Health
) -> AsyncIterator[DeadLetterWriter]:
    """Raises UnusableFile if the file that the settings name cannot be used. ``connection`` is only used for a topic."""
    limiter = trio.CapacityLimiter(1)
    opening = partial(_open_target, settings, connection)
    target = await trio.to_thread.run_sync(opening, limiter=limiter, abandon_on_cancel=True)
    try:
        yield DeadLetterWriter(target, meter, limiter, health, random.Random())
    finally:
        target.close()


def _open_target(settings: DeadLetterSettings, connection: Mapping[str, object]) -> Target:
    match settings.type:
        case "topic":
            return DeadLetterTopic(settings.topic, connection)
        case "log":
            return DeadLetterLog()
    try:
        return DeadLetterFile(settings.path)
    except CannotOpen as error:
        if settings.path != DeadLetterSettings().path:
            raise
        # No setting names this file, and a container with a read-only root has no place for it.
        log.warning(
            "dead letters go to the log, because their default file cannot be used: set deadLetter.path or deadLetter.topic",
            reason=str(error),
        )
        return DeadLetterLog()
