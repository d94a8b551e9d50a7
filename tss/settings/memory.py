"""How many bytes the buffer may take when nobody said so: two thirds of what the machine or the container leaves."""

from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024

# What the process needs before it holds a single span: interpreter, libraries, librdkafka's queues.
_BASE_BYTES = 128 * MIB
_FLOOR_BYTES = 32 * MIB
# Where neither cgroup nor /proc tells (not Linux), the guide's recommended pod.
_UNKNOWN_LIMIT_BYTES = 512 * MIB


def buffer_bytes(limit_bytes: int) -> int:
    """Two thirds of the rest. What is held agrees with resident memory within 15 %; the remaining third is for that, for
    statistics and span metrics, and for batches on their way out."""
    return max((limit_bytes - _BASE_BYTES) * 2 // 3, _FLOOR_BYTES)


def is_too_much(buffer_bytes: int, limit_bytes: int) -> bool:
    """Whether a buffer of that size, when full, must end in the kernel killing the process."""
    return buffer_bytes > max(limit_bytes - _BASE_BYTES, _FLOOR_BYTES)


def memory_limit_bytes(root: Path = Path("/")) -> int:
    """The smallest of physical memory and every cgroup limit above this process (v2 and v1)."""
    limits = [*_physical(root), *_cgroup_limits(root)]
    return min(limits, default=_UNKNOWN_LIMIT_BYTES)


def _physical(root: Path) -> Iterator[int]:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) * 1024


def _cgroup_limits(root: Path) -> Iterator[int]:
    v2, v1 = root / "sys/fs/cgroup", root / "sys/fs/cgroup/memory"
    # In a container the limit is at the top. A systemd service sees the whole tree, and its limit is down its own path.
    yield from _limit(v2 / "memory.max")
    yield from _limit(v1 / "memory.limit_in_bytes")
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        steps = Path(path.lstrip("/"))
        for group in (steps, *steps.parents):
            if not controllers:
                yield from _limit(v2 / group / "memory.max")
            elif "memory" in controllers.split(","):
                yield from _limit(v1 / group / "memory.limit_in_bytes")


def _limit(file: Path) -> Iterator[int]:
    text = _text(file).strip()
    if text.isdecimal() and int(text) > 0:  # "max": no limit
        yield int(text)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
