"""libFuzzer on the compiled scanner, built with AddressSanitizer and UndefinedBehaviorSanitizer.

`python -m fuzz.sanitized --seconds 60`. Each case goes through both scanners, so that a wrong answer is found as well as
a byte read beyond the end; libFuzzer sees which branches of the C code a case takes and breeds what finds new ones.
Needs clang, its runtime (Debian: clang, libclang-rt-14-dev or the like) and atheris, whose library of libFuzzer and
AddressSanitizer is loaded before all else. What was found stays in .cache/fuzz/.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from random import Random
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "fuzz"
SOURCE = ROOT / "tss" / "core" / "otlp" / "scanner.pyx"
NAME = "tss.core.otlp.scanner"
BUILT = CACHE / f"scanner{sysconfig.get_config_var('EXT_SUFFIX')}"
SEEDS = 300  # made messages to begin with
MOST_BYTES = 4096  # of a case: enough that all arrays leave the stack

# Behaviour that C leaves undefined traps instead of being told in words: atheris' library has no words for it. Shifts
# and alignment are not among the checks' targets in Python's own headers, so all of "undefined" can be on but for the
# call through a pointer of another type, which is how Python calls methods.
FLAGS = (
    "-shared", "-fPIC", "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined,fuzzer-no-link",
    "-fsanitize-trap=undefined", "-Wno-everything",
)  # fmt: skip


class _Finder:
    """Gives the sanitized scanner to whoever imports the scanner."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != NAME:
            return None
        return importlib.util.spec_from_file_location(name, BUILT, loader=ExtensionFileLoader(name, str(BUILT)))


def build() -> None:
    """Compile the scanner into the cache, if its source is newer than what is there."""
    if BUILT.exists() and BUILT.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    source = CACHE / "scanner.c"
    subprocess.run(
        [sys.executable, "-m", "cython", "--module-name", NAME, str(SOURCE), "-o", str(source)],
        check=True, cwd=ROOT,
    )  # fmt: skip
    include = sysconfig.get_path("include")
    subprocess.run([_clang(), *FLAGS, f"-I{include}", str(source), "-o", str(BUILT)], check=True)


def _clang() -> str:
    clang = shutil.which("clang")
    if clang is None:
        raise SystemExit("needs clang and its runtime libraries")
    return clang


def _seeds() -> Path:
    """A folder of made messages; the first byte of each case chooses the lookup."""
    from fuzz.making import Maker  # noqa: PLC0415  # not before the build

    folder = CACHE / "seeds"
    folder.mkdir(exist_ok=True)
    maker = Maker(Random(1))
    for number in range(SEEDS):
        (folder / str(number)).write_bytes(bytes((number % 3,)) + maker.message())
    return folder


def start(seconds: int) -> int:
    """Build, and run the fuzzer in a process with the sanitizer loaded. Its exit status: not 0 after a finding."""
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit("needs atheris")
    build()
    found = CACHE / "corpus"
    found.mkdir(exist_ok=True)
    library = Path(sysconfig.get_path("purelib")) / "asan_with_fuzzer.so"
    command = [
        sys.executable, "-m", "fuzz.sanitized", "--child", f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}",
        "-print_final_stats=1", f"-artifact_prefix={CACHE}/", str(found), str(_seeds()),
    ]  # fmt: skip
    # Python itself keeps memory to its end, and its own allocator would hide from the sanitizer what it hands out.
    environment = os.environ | {
        "LD_PRELOAD": str(library), "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "PYTHONMALLOC": "malloc",
    }  # fmt: skip
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


def fuzz(arguments: list[str]) -> None:
    """In the child: never returns."""
    atheris = importlib.import_module("atheris")  # only here is its library loaded; it has no types
    sys.meta_path.insert(0, _Finder())
    from fuzz.comparing import LOOKUPS, Lineages, compare  # noqa: PLC0415  # with the sanitized scanner
    from tss.core.otlp import scanner  # noqa: PLC0415

    if scanner.__file__ != str(BUILT):
        raise SystemExit(f"{scanner.__file__} is not sanitized")

    def one(data: bytes) -> None:
        if data:
            # A copy of the exact size: behind it there is Python's own zero, and then what the sanitizer guards.
            found = compare(bytes(data[1:]), data[0] % len(LOOKUPS))
            lineages = Lineages()
            half = len(data) // 16 * 8  # any bytes are ids
            lineages.add(data[:half], data[half : 2 * half])
            for fragment in found:
                lineages.add(fragment.span_ids, fragment.missing)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        fuzz(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m fuzz.sanitized", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    return start(parser.parse_args().seconds)


if __name__ == "__main__":
    sys.exit(main())
