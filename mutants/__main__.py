"""`python -m mutants`: make the mistakes one by one, in a copy of the tree, and say which of them no test noticed."""

from __future__ import annotations

import argparse
import enum
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import yaml

from mutants.mutating import Mutation, chosen, mutations_of
from mutants.planted import PLANTED, Planted

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "mutants"
TREE = CACHE / "tree"
FOLDERS = ["tss/tasks", "tss/edges"]
# What needs no other server than the embedded ones, and of the simulation every twentieth seed: it reaches nearly all of
# the tasks in every seed.
TESTS = [
    "tests/tasks", "tests/edges", "tests/contracts", "tests/test_fleet.py", "tests/simulation/test_destinations_joined.py",
    *(f"tests/simulation/test_laws.py::test_the_laws_are_kept{who}[{seed}]"
      for seed in range(0, 200, 20) for who in ("", "_by_a_fleet_with_redis")),
]  # fmt: skip
MOST_TESTS = 400  # of one mutation: those that call the fewest functions come first, so these are about it
START_SECS = 90  # for the interpreter, the collection and the embedded servers, on a busy machine


class Verdict(enum.Enum):
    """What became of a mistake."""

    KILLED = "killed by an assertion"
    CRASHED = "noticed by a crash alone"
    HUNG = "noticed by a hang alone"
    SURVIVED = "survived"
    UNREACHED = "reached by none of these tests"
    UNIMPORTABLE = "cannot be imported: proves nothing"


@attrs.frozen
class Result:
    """Of one mistake: the verdict, and the test and its words."""

    verdict: Verdict
    why: str = ""
    tests: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--mutations", type=int, default=100, help="how many of the possible ones (default 100)")
    parser.add_argument("--seed", type=int, default=15, help="which of them (default 15)")
    parser.add_argument("--only", default="", help="those whose name has this in it")
    parser.add_argument("--minutes", type=float, default=600, help="stop then; what is known is kept for the next run")
    parser.add_argument("--planted", action="store_true", help="the mistakes in mutants/planted.py alone")
    asked = parser.parse_args()
    os.nice(19)  # there is always somebody else who needs the machine more
    until = time.monotonic() + 60 * asked.minutes
    _copy_tree()
    planted_well = _run_planted(asked.only)
    if asked.planted:
        return 0 if planted_well else 1
    mutations = [each for each in mutations_of(ROOT, FOLDERS) if asked.only in each.name]
    picked = chosen(mutations, asked.mutations, asked.seed)
    print(f"{len(picked)} of {len(mutations)} mutations, seed {asked.seed}", flush=True)
    results = _judge_all(picked, _covering(), until)
    unexplained = _report(picked, results)
    return 0 if planted_well and not unexplained and len(results) == len(picked) else 1


# -- the copy


def _copy_tree() -> None:
    """What git knows or would take, and the compiled modules."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout.decode()  # fmt: skip
    compiled = (str(path.relative_to(ROOT)) for path in (ROOT / "tss").rglob("*.so"))
    for name in [*filter(None, listed.split("\0")), *compiled]:
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    for servers in (".cache/kafka-jars",):
        if (ROOT / servers).exists():
            (TREE / servers).parent.mkdir(parents=True, exist_ok=True)
            (TREE / servers).symlink_to(ROOT / servers)


def _pytest(tests: Sequence[str], plugin: str, into: Path, secs: float, *, interpreted: bool = False) -> int | None:
    """Its exit code; None when it had to be ended."""
    arguments = CACHE / "arguments"
    arguments.write_text("\n".join(tests))
    variable = "MUTANTS_" + plugin.rpartition(".")[2].upper()
    environment = os.environ | {variable: str(into), "PYTHONDONTWRITEBYTECODE": "1"}
    if interpreted:
        environment["INTERPRETED"] = "1"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", "--no-header", "--tb=no",
        "--hypothesis-seed=0", f"@{arguments}",
    ]  # fmt: skip
    into.unlink(missing_ok=True)
    with (CACHE / "pytest.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=TREE, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            return process.wait(secs)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:  # with what it has started
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


# -- which tests

Covered = Mapping[str, tuple[float, list[str]]]  # by test: its seconds, and the functions it calls


def _covering() -> Covered:
    """Known from the last run as long as neither the code nor the tests have changed."""
    watched = [path for folder in (*FOLDERS, "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    state = hashlib.sha256(b"".join(path.read_bytes() for path in watched)).hexdigest()[:16]
    known = CACHE / f"covering-{state}.json"
    if not known.exists():
        print("finding out which test calls what: some minutes", flush=True)
        part = CACHE / "covering.part"
        # Interpreted, for nothing hears the calls of what is compiled.
        _pytest(TESTS, "mutants.covering", part, 3600, interpreted=True)
        part.replace(known)
    found: Covered = json.loads(known.read_text())
    return found


def _tests_of(mutation: Mutation, covered: Covered) -> list[str]:
    """Those that reach it, the most particular first."""

    def reach(functions: list[str]) -> bool:
        if not mutation.function:
            return any(each.startswith(f"{mutation.path}:") for each in functions)
        return f"{mutation.path}:{mutation.function}" in functions

    tests = [test for test, (_, functions) in covered.items() if reach(functions)]
    return sorted(tests, key=lambda test: (len(covered[test][1]), covered[test][0]))[:MOST_TESTS]


# -- the verdicts


def _judge_all(picked: Sequence[Mutation], covered: Covered, until: float) -> dict[str, Result]:
    """By name; less than all of them when time is up. What was judged before, in the same file, is not judged again."""
    kept = CACHE / "results.json"
    known: dict[str, list[str | int]] = json.loads(kept.read_text()) if kept.exists() else {}
    results = {}
    for number, mutation in enumerate(picked, 1):
        tests = _tests_of(mutation, covered)
        key = hashlib.sha256(
            b"%b %b %b" % (mutation.name.encode(), (ROOT / mutation.path).read_bytes(), "\n".join(tests).encode())
        ).hexdigest()[:24]
        if key in known:
            verdict, why, count = known[key]
            results[mutation.name] = Result(Verdict(verdict), str(why), int(count))
            continue
        if time.monotonic() > until:
            break
        result = results[mutation.name] = _judge(mutation, tests, sum(covered[test][0] for test in tests))
        known[key] = [result.verdict.value, result.why, result.tests]
        kept.write_text(json.dumps(known, indent=1))
        print(
            f"{number:3} {result.verdict.value:28} {result.tests:4} tests  line {mutation.line} {mutation.name}",
            flush=True,
        )
    return results


def _judge(mutation: Mutation, tests: Sequence[str], secs: float) -> Result:
    if not tests:
        return Result(Verdict.UNREACHED)
    source = (ROOT / mutation.path).read_bytes()
    return _judge_with(mutation.path, mutation.applied(source), tests, START_SECS + 5 * secs)


def _judge_with(path: str, source: bytes, tests: Sequence[str], secs: float) -> Result:
    """Run the tests on the tree with this one file instead."""
    there, into = TREE / path, CACHE / "judged.json"
    before = there.read_bytes()
    there.write_bytes(source)
    try:
        if not _can_be_imported(path):
            return Result(Verdict.UNIMPORTABLE)
        interpreted = any(there.parent.glob(f"{there.stem}.*.so"))
        ended = _pytest(tests, "mutants.judging", into, secs, interpreted=interpreted)
    finally:
        there.write_bytes(before)
    failed: list[tuple[str, str, bool]] = json.loads(into.read_text()) if into.exists() else []
    proofs = [f"{test}: {why}" for test, why, proves in failed if proves]
    if proofs:
        return Result(Verdict.KILLED, proofs[0], len(tests))
    if ended is None:
        return Result(Verdict.HUNG, "", len(tests))
    if failed:
        return Result(Verdict.CRASHED, f"{failed[0][0]}: {failed[0][1]}", len(tests))
    if ended != 0:
        raise SystemExit(f"pytest ended with {ended}: see {CACHE / 'pytest.log'}")
    return Result(Verdict.SURVIVED, "", len(tests))


def _can_be_imported(path: str) -> bool:
    module = path.removesuffix(".py").replace("/", ".")
    code = f"import tests.interpreted, {module} as it; assert it.__file__.startswith({str(TREE)!r}), it.__file__"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=TREE, env=os.environ | {"INTERPRETED": "1", "PYTHONPATH": str(TREE)},
        capture_output=True, check=False,
    )  # fmt: skip
    return ended.returncode == 0


def _run_planted(only: str) -> bool:
    """Whether each is found by its own tests, and by an assertion."""
    well = True
    for each in PLANTED:
        if only not in each.name:
            continue
        result = _judge_planted(each)
        well = well and result.verdict is Verdict.KILLED
        print(f"planted: {each.name}: {result.verdict.value}: {result.why}", flush=True)
    return well


def _judge_planted(each: Planted) -> Result:
    return _judge_with(each.path, each.applied((ROOT / each.path).read_bytes()), each.tests, 600)


# -- the report


def _report(picked: Sequence[Mutation], results: Mapping[str, Result]) -> list[str]:
    """Say it; returns the survivors that nobody has explained."""
    explained: Mapping[str, str] = yaml.safe_load((Path(__file__).parent / "explained.yaml").read_text()) or {}
    counts = Counter(result.verdict for result in results.values())
    print("\n" + ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict))
    if len(results) < len(picked):
        print(f"{len(picked) - len(results)} are still to be judged: run it again")
    unexplained = []
    for name, result in results.items():
        if result.verdict in (Verdict.SURVIVED, Verdict.UNREACHED):
            print(f"{result.verdict.value}: {name}\n    {explained.get(name, 'NOT EXPLAINED')}")
            unexplained += [name] if name not in explained else []
        elif result.verdict is not Verdict.KILLED:
            print(f"{result.verdict.value}: {name}\n    {result.why}")
    return unexplained


sys.exit(main())
