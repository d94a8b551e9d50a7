"""Numbers as people write them: 30 s, 10 min, 2 GiB, 10 %."""

KIB, MIB, GIB = 1024, 1024**2, 1024**3
_TIMES = ((86_400, "d"), (3600, "h"), (60, "min"))


def time(secs: float) -> str:
    """In the largest unit that leaves no fraction: 600 is 10 min, 90 is 90 s."""
    for unit_secs, unit in _TIMES:
        if secs >= unit_secs and secs % unit_secs == 0:
            return f"{secs / unit_secs:g} {unit}"
    return f"{secs:g} s" if secs >= 1 or secs == 0 else f"{secs * 1000:g} ms"


def size(number: float) -> str:
    """Bytes, to three or four digits."""
    for unit_bytes, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number >= unit_bytes:
            return f"{number / unit_bytes:,.4g} {unit}"
    return f"{number:,.0f} bytes"


def share(rate: float) -> str:
    """0.1 is 10 %."""
    return f"{rate * 100:g} %"
