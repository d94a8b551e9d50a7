"""Dead letters in a list, which outlives the daemons that put them there."""

import random
from collections.abc import Callable, Sequence

import trio

from tss.core.deadletter import DeadLetter


class FakeDeadLetters:
    """Implements DeadLetters. A put takes ``max_delay_secs`` at most; cancelled before its end, it kept nothing."""

    def __init__(
        self,
        chance: random.Random | None = None,
        max_delay_secs: float = 0,
        kept: Callable[[Sequence[DeadLetter]], None] = lambda letters: None,
    ) -> None:
        self.letters: list[DeadLetter] = []
        self._chance = chance or random.Random(0)
        self._max_delay_secs = max_delay_secs
        self._kept = kept

    def __repr__(self) -> str:
        return f"<FakeDeadLetters {len(self.letters)}>"

    async def put(self, letters: Sequence[DeadLetter]) -> None:
        await trio.sleep(self._chance.uniform(0, self._max_delay_secs))
        self.letters.extend(letters)
        self._kept(letters)
