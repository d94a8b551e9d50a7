"""Wheels that are unpacked into a folder of their own in `.cache/toolchain`, not installed beside the daemon."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from toolchain import pip

LOCKS = Path(__file__).parent
HOME = LOCKS.parent / ".cache" / "toolchain"


def unpacked(name: str) -> Path:
    """The folder with the wheels of NAME.lock, fetched unless they are there from this very lock. Raises pip.Failed."""
    lock, place = LOCKS / f"{name}.lock", HOME / name
    installed = place / "installed.lock"  # written last: what a torn installation lacks
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{name}.fetching").open("w") as fetching:
        fcntl.flock(fetching, fcntl.LOCK_EX)  # one fetches, the others wait for it
        if not (installed.is_file() and installed.read_bytes() == lock.read_bytes()):
            shutil.rmtree(place, ignore_errors=True)
            # A wheel or nothing: to build one would ask for the tools that are missing.
            only = ("--only-binary", ":all:", "--require-hashes", "--no-deps", "--no-compile")
            pip.run("install", *only, "--target", place, "-r", lock)
            shutil.copyfile(lock, installed)
    return place
