from collections.abc import Callable, Sequence
from typing import Any

class Walker:
    broken: int
    def __init__(
        self,
        span_keys: Sequence[str] = ...,
        resource_keys: Sequence[str] = ...,
        *,
        prefixes: Sequence[str] = ...,
        service_keys: Sequence[str] = ...,
        notes: Sequence[str] = ...,
        texts: Sequence[str] = ...,
        by_status: bool = ...,
        resource: Callable[[bytes], Any] = ...,
    ) -> None: ...
    def walk(self, chunks: list[bytes]) -> int: ...
    def forget(self) -> None: ...
    def facts_of(self, chunks: list[bytes]) -> list[dict[str, Any]]: ...
