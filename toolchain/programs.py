"""Programs that are built from Go's modules: servers and judges of the tests. A go.mod and a go.sum pin each module by hash."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
from pathlib import Path

from toolchain import go

CACHE = Path(__file__).resolve().parents[1] / ".cache"
BUILD_SECS = 1500  # with all modules to fetch
_UNREACHED = re.compile(r"dial tcp|no such host|i/o timeout|connection refused|proxyconnect|TLS handshake|50[234] ")


class Unbuilt(RuntimeError):
    """What happened, and what to do."""


def built(source: Path, name: str, *, linked: str = "") -> Path:
    """The program of the package `main` in the folder `source`, in .cache/NAME: built if it is not there from this source.

    `linked` is more for the linker. Processes that ask at once wait for the first. Raises Unbuilt, and pip.Failed without Go.
    """
    folder = CACHE / name
    made = folder / f"{name}-{_hash(source, linked)}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _build(source, made, linked)
    return made


def _hash(source: Path, linked: str) -> str:
    parts = sorted(path for path in source.iterdir() if path.suffix in {".go", ".mod", ".sum"})
    text = b"".join(part.name.encode() + part.read_bytes() for part in parts)
    return hashlib.sha256(text + linked.encode()).hexdigest()[:16]


def _build(source: Path, made: Path, linked: str) -> None:
    unfinished = made.with_suffix(".new")  # moved when complete
    flags = ["-mod=readonly", "-trimpath", f"-ldflags=-s -w {linked}"]
    try:
        subprocess.run(
            [str(go(source)), "build", *flags, "-o", str(unfinished), "."],
            cwd=source,
            env=os.environ | {"CGO_ENABLED": "0"},
            check=True,
            capture_output=True,
            text=True,
            timeout=BUILD_SECS,
        )
    except subprocess.CalledProcessError as failure:
        raise Unbuilt(_told(made.parent.name, failure.stderr)) from failure
    except subprocess.TimeoutExpired as failure:
        raise Unbuilt(f"{made.parent.name}: Go has built for {BUILD_SECS} s and is not done; try again") from failure
    unfinished.rename(made)


def _told(name: str, said: str) -> str:
    said = said.strip()[-4000:]
    if _UNREACHED.search(said):
        return (
            f"{name} cannot be built: no proxy for Go's modules answered. Connect this machine, or name a proxy that it"
            f" reaches in GOPROXY, then try again. Go said:\n{said}"
        )
    return f"{name} cannot be built. Go said:\n{said}"
