"""`make test-pythons`: the quick tests on each Python of this machine that is newer than the one of `.venv`.

Each has an environment of its own in `.cache/pythons`, made of `requirements.lock`, and compiles a copy of the sources.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".cache" / "pythons"
NEWEST_MINOR = 30  # looked for up to here; Python releases one a year
# No quick test needs these. (lxml is needed where jars are fetched.)
NOT_NEEDED = (
    "atheris", "build", "cyclonedx-bom", "cyclonedx-python-lib", "mypy", "pip-audit", "pip-tools", "ruff",
)  # fmt: skip
WORKERS = "2"


def newer_pythons() -> list[Path]:
    """One interpreter for each minor version above the running one: from the PATH, else pyenv's; oldest version first."""
    found = []
    for minor in range(sys.version_info.minor + 1, NEWEST_MINOR):
        places = [Path(each) for each in [shutil.which(f"python3.{minor}")] if each]
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        places += sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"))
        # A shim on the PATH may stand for a version that is not chosen: it says so when it is run.
        working = [place for place in places if _runs(place, minor)]
        found += working[:1]
    return found


def _runs(place: Path, minor: int) -> bool:
    question = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
    return subprocess.run([place, "-c", question], capture_output=True, check=False).returncode == 0


def environment(python: Path) -> Path:
    """Its environment with what the lock pins; made once for each version and lock. Raises CalledProcessError."""
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    place = PLACE / version
    wanted = _wanted((ROOT / "requirements.lock").read_text())
    lock = place / "installed.lock"
    if lock.is_file() and lock.read_text() == wanted:
        return place
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([python, "-m", "venv", place / "venv"], check=True)
    asked = place / "asked.lock"
    asked.write_text(wanted)
    command: list[str | Path] = [
        place / "venv/bin/python",
        "-m",
        "toolchain",
        "pip",
        "install",
        "--require-hashes",
        "--no-deps",
        "--no-compile",  # a module is compiled to bytecode when it is first imported; most never are
        "-r",
        asked,
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    asked.rename(lock)
    return place


def _wanted(lock: str) -> str:
    """The lock without the packages that are not needed here; a package begins with its name at the start of a line."""
    blocks = re.split(r"(?m)^(?=[a-z0-9])", lock)
    return "".join([block for block in blocks if block.partition("==")[0] not in NOT_NEEDED])


def sources(place: Path) -> Path:
    """A copy of the files that git knows, as they are in the work tree, with the hot path compiled for this Python."""
    tree = place / "tree"
    known = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shutil.rmtree(tree, ignore_errors=True)
    for name in filter(None, known.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    (tree / ".cache").symlink_to(ROOT / ".cache")
    python = place / "venv/bin/python"
    compiler = subprocess.run([python, "-m", "toolchain", "cc"], cwd=ROOT, capture_output=True, text=True, check=True)
    cc = {"CC": compiler.stdout.strip()} if compiler.stdout.strip() else {}
    build: list[str | Path] = [python, "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"]
    # Not optimised: here only what it answers is asked, and compiling would take most of the time.
    subprocess.run(build, cwd=tree, check=True, env=os.environ | cc | {"CFLAGS": "-O0"}, stderr=subprocess.DEVNULL)
    question = "from tss.core.otlp import SCANNER; assert SCANNER == 'compiled', SCANNER"
    subprocess.run([python, "-c", question], cwd=tree, check=True)
    return tree


def tested(place: Path, tree: Path, arguments: list[str]) -> bool:
    """Whether the quick tests pass there. Properties are tried with a tenth of the usual examples: chance is tried elsewhere."""
    command: list[str | Path] = [
        place / "venv/bin/python",
        "-m",
        "pytest",
        "-q",
        "tests",
        "-n",
        WORKERS,
        "--dist",
        "loadfile",
    ]
    command += [f"--ignore=tests/{tier}" for tier in ("simulation", "real", "kube")]
    return (
        subprocess.run([*command, *arguments], cwd=tree, check=False, env=os.environ | {"EXAMPLES": "10"}).returncode
        == 0
    )


def main() -> int:
    """The exit code: 1 if the tests fail on any of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description=__doc__)
    parser.add_argument("--newest", action="store_true", help="only on the newest Python")
    parser.add_argument("--prepare", action="store_true", help="only make the environments")
    options, arguments = parser.parse_known_args()
    pythons = newer_pythons()
    if not pythons:
        print(f"no Python newer than {sys.version.split()[0]} on this machine")
    failed = []
    for python in pythons[-1:] if options.newest else pythons:
        began = time.monotonic()
        place = environment(python)
        if options.prepare:
            continue
        print(f"== {python} ({place.name})", flush=True)
        if not tested(place, sources(place), arguments):
            failed.append(place.name)
        print(f"== {place.name}: {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed on Python {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
