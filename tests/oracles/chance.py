"""Chance from a seed, the same in every version of Python: so a golden file's questions can be made anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """Of Python's generator only `random()` is used: it alone is promised to stay as it is."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def maybe(self, probability: float) -> bool:
        """True with this probability."""
        return self._random() < probability

    def below(self, end: int) -> int:
        """A whole number in [0, end)."""
        return int(self._random() * end)

    def between(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return least + self.below(most - least + 1)

    def one(self, of: Sequence[T]) -> T:
        """Any of them."""
        return of[self.below(len(of))]

    def weighted(self, of: Sequence[tuple[int, T]]) -> T:
        """One of them, each as often as its weight says."""
        left = self.below(sum(weight for weight, _ in of))
        for weight, thing in of:
            left -= weight
            if left < 0:
                return thing
        raise AssertionError("weights are positive")

    def some(self, of: Sequence[T], least: int, most: int) -> list[T]:
        """So many of them, any of them several times."""
        return [self.one(of) for _ in range(self.between(least, most))]

    def hex(self, digits: int) -> str:
        """A text of so many hexadecimal digits."""
        return "".join(self.one("0123456789abcdef") for _ in range(digits))
