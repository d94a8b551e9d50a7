# What folding.pyx has.

from collections.abc import Sequence

class Folder:
    def __init__(
        self, span_bytes: int, root_bytes: int, window_bytes: int, firsts: bytes, bounds: Sequence[tuple[int, int]]
    ) -> None: ...
    def fold(self, facts: bytes, further: bytes) -> bytes: ...
