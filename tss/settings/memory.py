"""The default of `app.maxBufferBytes`: two thirds of (memory limit - 128 MiB)."""

from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024

# The memory of a process without any span: interpreter, libraries, librdkafka's queues.
_BASE_BYTES = 128 * MIB
_FLOOR_BYTES = 32 * MIB
# Used if neither a cgroup nor /proc says (not Linux): the size of pod that the deployment guide recommends.
_UNKNOWN_LIMIT_BYTES = 512 * MIB


def buffer_bytes(limit_bytes: int) -> int:
    """The default for a memory limit. The counted bytes agree with resident memory within 15 %. The other third is for that
    difference, for statistics and span metrics, and for batches that are being sent."""
    return max((limit_bytes - _BASE_BYTES) * 2 // 3, _FLOOR_BYTES)


def is_too_much(buffer_bytes: int, limit_bytes: int) -> bool:
    """Whether the kernel would kill the process when a buffer of this size is full."""
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
    # A container has its limit at the top of the tree. A systemd service sees the whole tree, with its limit at its own path.
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
