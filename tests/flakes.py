"""`python -m tests.flakes`: the real tests again and again, in another order each time, beside busy cores.

A test that fails in one round and not in all is a flake: the report names it, and the seed that gives its order again
(`make test-real SHUFFLED=seed`).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+(?: \S+)*?)(?: - .*)?$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.flakes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each next has the next")
    parser.add_argument("--busy", type=int, default=1, help="cores kept busy beside every second round")
    parser.add_argument("--tier", default="real", help="unit, simulation or real")
    asked, rest = parser.parse_known_args()
    failures: dict[str, list[int]] = defaultdict(list)
    green = 0
    for number in range(asked.rounds):
        seed = asked.seed + number
        with _busy(asked.busy if number % 2 else 0):
            code, output = _round(asked.tier, seed, rest)
        green += not code
        for test in FAILED.findall(output):
            failures[test].append(seed)
        print(f"round {number + 1}, SHUFFLED={seed}: {'green' if not code else 'RED'}", flush=True)
    for test, seeds in failures.items():
        print(f"{len(seeds)} of {asked.rounds} rounds: {test} (SHUFFLED={', '.join(map(str, seeds))})")
    return 0 if green == asked.rounds else 1


def _round(tier: str, seed: int, rest: list[str]) -> tuple[int, str]:
    with tempfile.TemporaryFile() as output:
        command = ["make", "--no-print-directory", f"test-{tier}", f"SHUFFLED={seed}"]
        code = subprocess.call([*command, f"ARGS={' '.join(rest)}"], cwd=ROOT, stdout=output, stderr=output)
        output.seek(0)
        said = output.read().decode(errors="replace")
    sys.stdout.write(said[-4000:] if code else "")
    return code, said


@contextmanager
def _busy(cores: int) -> Iterator[None]:
    """Somebody else needs the machine, too."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
