"""`python -m mutants`: make the mistakes one by one, in a copy of the tree, and say which of them no test noticed."""

from __future__ import annotations

import argparse
import contextlib
import enum
import hashlib
import importlib.util
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

from mutants.judging import NOT_COLLECTED
from mutants.mutating import Mutation, chosen, mutations_of
from mutants.planted import PLANTED, Planted
from tests.core.conftest import OF_BOTH

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "mutants"
TREE = CACHE / "tree"
FOLDERS = {
    "tasks": ["tss/state", "tss/tasks", "tss/edges"],
    "core": ["tss/core/policies", "tss/core/conditions", "tss/core/collector", "tss/core/combining.py", "tss/core/weights.py"],
}  # fmt: skip
# In this order: a test of a later group is run only when no test of an earlier one has noticed the mistake.
# - What needs no other server than the embedded ones.
# - Of the simulation every fortieth seed: each seed reaches nearly all of the tasks.
# - What uses the clients of `tss.edges` in its own process, against real servers. Other real tests start daemons of
#   their own, whose calls are not seen from here.
_SEEDS = [
    f"tests/simulation/test_laws.py::test_the_laws_are_kept{who}[{seed}]"
    for seed in range(0, 200, 40) for who in ("", "_by_a_fleet_with_redis")
]  # fmt: skip
_TASKS = [
    [
        "tests/state", "tests/tasks", "tests/edges", "tests/contracts", "tests/test_ending.py", "tests/test_fleet.py",
        "tests/commands/test_force.py", "tests/simulation/test_destinations_joined.py",
    ],
    _SEEDS,
    [
        f"tests/real/test_{name}.py"
        for name in ("redis_edge", "redis_link", "redis_failover", "force_store", "kafka_edge", "kafka_topic",
                     "replaced_topic", "rebalances", "foreign_headers", "datadog_agent", "otlp_faults")
    ],
]  # fmt: skip
# What decides is asked by its own tests, and by worlds with twenty policies.
_RULED = [
    f"tests/simulation/test_laws.py::test_the_laws_are_kept_{who}with_twenty_policies[{seed}]"
    for seed in range(0, 40, 20) for who in ("", "by_a_fleet_")
]  # fmt: skip
GROUPS = {"tasks": _TASKS, "core": [["tests/core"], _RULED]}
MOST_TESTS = 400  # of one mutation: those that call the fewest functions come first, so these are about it
START_SECS = 60  # for the interpreter, the collection and the embedded servers, on a busy machine
LIMIT_SECS = 60  # of one test, beside ten times what it takes without a mistake
MOST_HANGS = 3  # of one mistake's tests, each of which takes its whole limit
PLANTED_SECS = 300  # of one test of a planted mistake


class Verdict(enum.Enum):
    """What became of a mistake: what counts more comes first."""

    KILLED = "killed by an assertion"
    UNIMPORTABLE = "cannot be imported: proves nothing"
    CRASHED = "noticed by a crash alone"
    HUNG = "noticed by a hang alone"
    SURVIVED = "survived"
    UNREACHED = "reached by none of these tests"


RANKS = [*Verdict]
SETTLED = (Verdict.KILLED, Verdict.UNIMPORTABLE)


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
    parser.add_argument(
        "--part", default="tasks", choices=FOLDERS, help="state, tasks and edges (default), or what decides"
    )
    parser.add_argument("--only", default="", help="those whose name has this in it")
    parser.add_argument("--minutes", type=float, default=600, help="stop then; what is known is kept for the next run")
    parser.add_argument("--planted", action="store_true", help="the mistakes in mutants/planted.py alone")
    asked = parser.parse_args()
    os.nice(max(0, 15 - os.nice(0)))  # somebody else needs the machine more
    until = time.monotonic() + 60 * asked.minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or pytest and its servers would go on without it
    _copy_tree()
    planted_well = _run_planted(asked.only)
    if asked.planted:
        return 0 if planted_well else 1
    mutations = [each for each in mutations_of(TREE, FOLDERS[asked.part]) if asked.only in each.name]
    picked = chosen(mutations, asked.mutations, asked.seed)
    print(f"{len(picked)} of {len(mutations)} mutations, seed {asked.seed}", flush=True)
    results = _judge_all(picked, GROUPS[asked.part], until)
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
    (TREE / ".cache").mkdir()
    for servers in CACHE.parent.iterdir():
        if servers != CACHE:
            (TREE / ".cache" / servers.name).symlink_to(servers)


def _pytest(tests: Sequence[str], plugin: str, into: Path, secs: float, *, interpreted: bool = False) -> int | None:
    """Its exit code; None when it had to be ended."""
    arguments = CACHE / "arguments"
    arguments.write_text("\n".join(tests))
    variable = "MUTANTS_" + plugin.rpartition(".")[2].upper()
    environment = os.environ | {variable: str(into)}
    if interpreted:
        environment["INTERPRETED"] = "1"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", "--no-header", "--tb=no",
        "-p", "no:faulthandler", "--hypothesis-seed=0", f"@{arguments}",
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
            with contextlib.suppress(ProcessLookupError):  # with what it has started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# -- which tests

Covered = Mapping[str, tuple[float, list[str]]]  # by test: its seconds, and the functions it calls


def _covering(group: Sequence[str]) -> Covered:
    """Of a group. What is known of a test file is good as long as neither it nor a module that its tests call has
    changed."""
    kept = CACHE / "covering.json"
    known: dict[str, tuple[str, Covered]] = json.loads(kept.read_text()) if kept.exists() else {}
    names = [name for test in group for name in _files_of(test)]
    unknown = [name for name in names if name not in known or known[name][0] != _state(name, known[name][1])]
    if unknown:
        print(f"finding out which test calls what, in {len(unknown)} files: some minutes", flush=True)
        part = CACHE / "covering.part"
        # Interpreted, for nothing hears the calls of what is compiled.
        _pytest(unknown, "mutants.covering", part, 3600, interpreted=True)
        heard: Covered = json.loads(part.read_text())
        if not heard:
            raise SystemExit(f"no test was run: see {CACHE / 'pytest.log'}")
        for name in unknown:
            own = {test: it for test, it in heard.items() if test == name or test.startswith(f"{name}::")}
            known[name] = _state(name, own), own
        kept.write_text(json.dumps(known))
    return {test: it for name in names for test, it in known[name][1].items()}


def _files_of(test: str) -> list[str]:
    """Of a folder, the test files in it that run interpreted; of anything else, itself."""
    there = TREE / test
    if not there.is_dir():
        return [test]
    return [str(path.relative_to(TREE)) for path in sorted(there.rglob("test_*.py")) if path.name not in OF_BOTH]


def _state(name: str, covered: Covered) -> str:
    """Of a test file, or of one of its tests, and of the modules that it calls."""
    paths = {name.partition("::")[0], *(each.partition(":")[0] for _, calls in covered.values() for each in calls)}
    there = [TREE / path for path in sorted(paths)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in there if path.exists())).hexdigest()[:16]


def _tests_of(mutation: Mutation, covered: Covered) -> dict[str, float]:
    """Those that reach it, the most particular first, with their seconds."""

    def reach(functions: list[str]) -> bool:
        if not mutation.function:
            return any(each.startswith(f"{mutation.path}:") for each in functions)
        return f"{mutation.path}:{mutation.function}" in functions

    tests = [test for test, (_, functions) in covered.items() if reach(functions)]
    tests.sort(key=lambda test: (len(covered[test][1]), covered[test][0]))
    return {test: covered[test][0] for test in tests[:MOST_TESTS]}


# -- the verdicts


def _judge_all(picked: Sequence[Mutation], groups: Sequence[list[str]], until: float) -> dict[str, Result]:
    """By name; less than all of them when time is up. A proof counts more than a crash, that more than a hang, and that
    more than to survive."""
    results = {mutation.name: Result(Verdict.UNREACHED) for mutation in picked}
    known = _Known()
    explained = _explained()
    for number, group in enumerate(groups):
        # What is explained needs no slower tests once the quick ones have not noticed it.
        still = [
            mutation
            for mutation in picked
            if results[mutation.name].verdict not in SETTLED and not (number and mutation.name in explained)
        ]
        covered = _covering(group) if still else {}
        for mutation in still:
            if time.monotonic() > until:
                return {name: result for name, result in results.items() if result.verdict in SETTLED}
            result = known.judge(mutation, _tests_of(mutation, covered), number)
            results[mutation.name] = min(result, results[mutation.name], key=lambda each: RANKS.index(each.verdict))
    return results


class _Known:
    """What was judged before, with the same code and tests, is not judged again. Of what has changed since, the test that
    noticed it then is asked first."""

    def __init__(self) -> None:
        self._kept = CACHE / "results.json"
        self._known: dict[str, tuple[str, str, str, int]] = (
            json.loads(self._kept.read_text()) if self._kept.exists() else {}
        )

    def judge(self, mutation: Mutation, tests: dict[str, float], number: int) -> Result:
        if not tests:
            return Result(Verdict.UNREACHED)
        state = hashlib.sha256(json.dumps(sorted(tests)).encode())
        for path in (mutation.path, *sorted({test.partition("::")[0] for test in tests})):
            state.update((TREE / path).read_bytes())
        place = f"{number + 1} {mutation.name}"
        judged, verdict, why, count = self._known.get(place, ("", "", "", 0))
        if judged == state.hexdigest():
            return Result(Verdict(verdict), why, count)
        mutated = mutation.applied((TREE / mutation.path).read_bytes())
        before = {test: secs for test, secs in tests.items() if why.startswith(f"{test}: ")}
        result = _judge_by(mutation.path, mutated, before)
        if result.verdict is not Verdict.KILLED:
            result = _judge_by(mutation.path, mutated, tests)
        self._known[place] = state.hexdigest(), result.verdict.value, result.why, result.tests
        self._kept.write_text(json.dumps(self._known, indent=1))
        print(
            f"{result.verdict.value:28} {result.tests:4} tests  line {mutation.line} {mutation.name}\n    {result.why}",
            flush=True,
        )
        return result


def _judge_by(path: str, mutated: bytes, tests: dict[str, float]) -> Result:
    """By an assertion, if one of the tests has it: a test that hangs is passed over. One that waits for a real clock must
    pass without the mistake, on this machine and as busy as it is."""
    hung: list[Result] = []
    while tests:
        result = _judge_with(path, mutated, tests)
        if result.verdict is Verdict.HUNG and len(hung) < MOST_HANGS:
            hung.append(result)
            names = [*tests]
            tests = {name: tests[name] for name in names[names.index(result.why) + 1 :]} if result.why in tests else {}
            continue
        if result.verdict is not Verdict.KILLED:
            return hung[0] if hung else result
        [(test, secs)] = [(test, secs) for test, secs in tests.items() if result.why.startswith(f"{test}: ")]
        waits = test.startswith("tests/real/") or "TooSlowError" in result.why  # it may be the machine that was slow
        without = None
        if waits and test not in _holding:
            without = _judge_with(path, (TREE / path).read_bytes(), {test: secs})
        if without is None or without.verdict is Verdict.SURVIVED:
            _holding.add(test)
            return result
        print(f"fails without a mistake, too: {test}", flush=True)
        del tests[test]
    return hung[0] if hung else Result(Verdict.SURVIVED)


_holding: set[str] = set()  # tests that passed without any mistake, in this run


def _judge_with(path: str, source: bytes, tests: Mapping[str, float]) -> Result:
    """Run the tests, for each of which stand the seconds it takes, on the tree with this one file instead."""
    there, into = TREE / path, CACHE / "judged.json"
    before = there.read_bytes()
    limits = {test: LIMIT_SECS + 10 * secs for test, secs in tests.items()}
    into.with_suffix(".limits").write_text(json.dumps(limits))
    _replace(there, source)
    try:
        interpreted = any(there.parent.glob(f"{there.stem}.*.so"))
        most_secs = START_SECS + sum(limits.values())
        ended = _pytest([*tests], "mutants.judging", into, most_secs, interpreted=interpreted)
        if not into.exists() and not _can_be_imported(path):
            return Result(Verdict.UNIMPORTABLE)
    finally:
        _replace(there, before)
    if not into.exists():
        raise SystemExit(f"pytest ended with {ended}: see {CACHE / 'pytest.log'}")
    judged = json.loads(into.read_text())
    failed: list[tuple[str, str, bool]] = judged["failed"]
    proofs = [f"{test}: {why}" for test, why, proves in failed if proves]
    if proofs:
        return Result(Verdict.KILLED, proofs[0], len(tests))
    if failed and failed[0][1] == NOT_COLLECTED:
        return Result(Verdict.UNIMPORTABLE, failed[0][0], len(tests))
    if failed:
        return Result(Verdict.CRASHED, f"{failed[0][0]}: {failed[0][1]}", len(tests))
    if judged["running"]:
        return Result(Verdict.HUNG, judged["running"], len(tests))
    if ended != 0:
        raise SystemExit(f"pytest ended with {ended}: see {CACHE / 'pytest.log'}")
    return Result(Verdict.SURVIVED, "", len(tests))


def _replace(there: Path, source: bytes) -> None:
    """Its compiled form goes, too: it is known by its time in seconds and its size, and both may be the same."""
    there.write_bytes(source)
    Path(importlib.util.cache_from_source(str(there))).unlink(missing_ok=True)


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
    tests = dict.fromkeys(each.tests, PLANTED_SECS / 10)  # whole files may be named
    return _judge_with(each.path, each.applied((TREE / each.path).read_bytes()), tests)


# -- the report


def _explained() -> Mapping[str, str]:
    """By the mutation's name why no test need notice it."""
    found: Mapping[str, str] = yaml.safe_load((Path(__file__).parent / "explained.yaml").read_text()) or {}
    return found


def _report(picked: Sequence[Mutation], results: Mapping[str, Result]) -> list[str]:
    """Say it; returns those that no assertion has noticed and nobody has explained."""
    explained = _explained()
    counts = Counter(result.verdict for result in results.values())
    print("\n" + ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict))
    if len(results) < len(picked):
        print(f"{len(picked) - len(results)} are still to be judged: run it again")
    open_ = {name: result for name, result in results.items() if result.verdict not in SETTLED}
    for name, result in open_.items():
        print(f"{result.verdict.value}: {name}\n    {result.why}\n    {explained.get(name, 'NOT EXPLAINED')}")
    return [name for name in open_ if name not in explained]


sys.exit(main())
