from collections.abc import Collection

def watch(
    heard: Collection[int],
    stops: Collection[int],
    told_fd: int,
    code: int,
    first: tuple[float, bytes, bytes],
    second: tuple[float, bytes, bytes],
) -> None: ...
