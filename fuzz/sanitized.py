"""The fuzzer on the compiled scanner, and on what counts the spans that it lets through, built with AddressSanitizer and UndefinedBehaviorSanitizer.

`python -m fuzz.sanitized --seconds 60`. Each case goes through both scanners, so that a wrong answer is found as well as
a byte read beyond the end. With clang, its runtime (Debian: clang, libclang-rt-14-dev or the like) and atheris, whose
library of libFuzzer and AddressSanitizer is loaded before all else, libFuzzer sees which branches of the C code a case
takes and breeds what finds new ones. Without them gcc does, and cases come from `fuzz.making` alone, as for
`python -m fuzz`. What was found stays in .cache/fuzz/.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from random import Random
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "fuzz"
MODULES = (
    *(
        f"tss.core.otlp.{name}"
        for name in (
            "answering",
            "counts",
            "cursor",
            "leaves",
            "lineage",
            "memo",
            "parts",
            "protobuf",
            "records",
            "restating",
            "rewriting",
            "scanner",
            "tracestates",
            "values",
        )
    ),
    "tss.core.compression.outline",
    "tss.core.compression.sqltext",
    "tss.core.conditions.folding",
    "tss.core.conditions.program",
    "tss.core.duplicates",
    *(f"tss.core.formats.apm_stats.{name}" for name in ("walk", "series", "resources", "concentrator")),
    "tss.core.formats.spanmetrics.counting",
)
SEEDS = 300  # made messages to begin with
MOST_BYTES = 4096  # of a case: enough that all arrays leave the stack

# Behaviour that C leaves undefined traps instead of being told in words: atheris' library has no words for it. Shifts
# and alignment are not among the checks' targets in Python's own headers, so all of "undefined" can be on but for the
# call through a pointer of another type, which is how Python calls methods.
FLAGS = ("-shared", "-fPIC", "-O1", "-g", "-fno-omit-frame-pointer", "-w")
CLANG_FLAGS = ("-fsanitize=address,undefined,fuzzer-no-link", "-fsanitize-trap=undefined")
GCC_FLAGS = ("-fsanitize=address,undefined", "-fsanitize-undefined-trap-on-error")


class _Finder:
    """Gives the sanitized modules to whoever imports the scanner's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MODULES:
            return None
        built = str(_built(self._folder, name))
        return importlib.util.spec_from_file_location(name, built, loader=ExtensionFileLoader(name, built))


def _built(folder: Path, module: str) -> Path:
    return folder / f"{module}{sysconfig.get_config_var('EXT_SUFFIX')}"


def _source(module: str) -> str:
    """A .pyx, or Python with its C types in a .pxd beside it."""
    path = module.replace(".", "/")
    return next(name for name in (f"{path}.pyx", f"{path}.py") if (ROOT / name).exists())


def build(compiler: str, flags: Sequence[str]) -> Path:
    """Compile what is newer than what is in the cache, there, as many at a time as there are processors; returns the folder."""
    folder = CACHE / Path(compiler).name
    folder.mkdir(parents=True, exist_ok=True)
    shared = [*(ROOT / "tss" / "core").rglob("*.p[yx][xd]"), *(ROOT / _source(module) for module in MODULES)]
    newest = max(path.stat().st_mtime for path in shared)
    stale = [
        module for module in MODULES
        if not (built := _built(folder, module)).exists() or built.stat().st_mtime <= newest
    ]  # fmt: skip
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(partial(_compile, folder, (compiler, *FLAGS, *flags)), stale):
            pass  # an error comes out here
    return folder


def _compile(folder: Path, command: Sequence[str], module: str) -> None:
    source = folder / f"{module}.c"
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", "-X", "annotation_typing=False", "--module-name", module, _source(module), "-o", source],
        check=True, cwd=ROOT,
    )  # fmt: skip
    include = sysconfig.get_path("include")
    subprocess.run([*command, f"-I{include}", source, "-o", _built(folder, module)], check=True)


def _seeds() -> Path:
    """A folder of made messages; the first byte of each case chooses what is asked."""
    from fuzz.making import Maker  # noqa: PLC0415  # not before the build

    folder = CACHE / "seeds"
    folder.mkdir(exist_ok=True)
    maker = Maker(Random(1))
    for number in range(SEEDS):
        (folder / str(number)).write_bytes(bytes((number % 23,)) + maker.message())
    return folder


def start(seconds: int) -> int:
    """Build, and run the fuzzer in a process with the sanitizer loaded. Its exit status: not 0 after a finding."""
    clang, gcc = shutil.which("clang"), shutil.which("gcc")
    if clang is not None and importlib.util.find_spec("atheris") is not None:
        return _guided(clang, seconds)
    if gcc is None:
        raise SystemExit("needs clang and its runtime with atheris, or gcc; on Debian: apt-get install clang, or gcc")
    print("no clang or no atheris: with gcc, and cases that are not guided by what code they reach", flush=True)
    return _unguided(gcc, seconds)


def _guided(clang: str, seconds: int) -> int:
    folder = build(clang, CLANG_FLAGS)
    found = CACHE / "corpus"
    found.mkdir(exist_ok=True)
    return _child(
        Path(sysconfig.get_path("purelib")) / "asan_with_fuzzer.so", "--guided", str(folder),
        f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", "-print_final_stats=1", f"-artifact_prefix={CACHE}/",
        str(found), str(_seeds()),
    )  # fmt: skip


def _unguided(gcc: str, seconds: int) -> int:
    folder = build(gcc, GCC_FLAGS)
    asked = subprocess.run([gcc, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    library = Path(asked.stdout.strip())
    if not library.is_absolute():
        raise SystemExit("needs gcc's libasan; on Debian it comes with gcc: apt-get install gcc")
    return _child(library.resolve(), "--unguided", str(folder), str(seconds))


def _child(library: Path, *arguments: str) -> int:
    """This module once more, with the sanitizer's library loaded before all else."""
    # Python itself keeps memory to its end, and its own allocator would hide from the sanitizer what it hands out.
    environment = os.environ | {
        "LD_PRELOAD": str(library), "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "PYTHONMALLOC": "malloc",
    }  # fmt: skip
    command = [sys.executable, "-m", "fuzz.sanitized", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


def _take(folder: Path) -> None:
    """Import the sanitized modules, before anything else does."""
    sys.meta_path.insert(0, _Finder(folder))
    for name in MODULES:
        module = importlib.import_module(name)
        if module.__file__ != str(_built(folder, name)):
            raise SystemExit(f"{module.__file__} is not sanitized")


def fuzz(folder: Path, arguments: list[str]) -> None:
    """In the child, under libFuzzer: never returns."""
    atheris = importlib.import_module("atheris")  # only here is its library loaded; it has no types
    _take(folder)
    from fuzz.comparing import CASES, Lineages, compare, count, restate, rework, weigh  # noqa: PLC0415  # with the sanitized scanner

    def one(data: bytes) -> None:
        if data:
            # A copy of the exact size: behind it there is Python's own zero, and then what the sanitizer guards.
            found = compare(bytes(data[1:]), data[0] % len(CASES))
            lineages = Lineages()
            half = len(data) // 16 * 8  # any bytes are ids
            lineages.add(data[:half], data[half : 2 * half])
            for fragment in found:
                lineages.add(fragment.span_ids, fragment.missing)
            count(found)
            rework(found)
            weigh(found)
            restate(bytes(data[1:]))

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def make_cases(folder: Path, seconds: int) -> None:
    """In the child: batches of made cases until the time is up."""
    _take(folder)
    from fuzz.__main__ import BATCH, batch  # noqa: PLC0415  # with the sanitized scanner

    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        seed = f"{time.time_ns()}"
        (CACHE / "seed").write_text(seed)  # of the batch that the sanitizer ends, if it finds something
        batch(seed, [])
        done += BATCH
    print(f"{done:,} cases, no finding")


def main() -> int:
    match sys.argv[1:]:
        case ["--guided", folder, *arguments]:
            fuzz(Path(folder), arguments)
        case ["--unguided", folder, seconds]:
            make_cases(Path(folder), int(seconds))
            return 0
    parser = argparse.ArgumentParser(prog="python -m fuzz.sanitized", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    return start(parser.parse_args().seconds)


if __name__ == "__main__":
    sys.exit(main())
