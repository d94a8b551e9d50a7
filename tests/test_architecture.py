"""Which way imports go, and what `core` must not know (ARCHITECTURE.md)."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "tss").rglob("*.py"))

# What each stratum may import of tss; `daemon` and `commands` join them and may import anything.
MAY_IMPORT = {
    "core": {"core"},
    "settings": {"core", "settings"},
    "state": {"core", "state"},
    "tasks": {"core", "state", "tasks"},
    "edges": {"core", "edges", "settings"},
}
# The rooms of `edges`, and what each may import of the others. A module beside the packages may import packages.
ROOMS = {
    "dead_letters": {"files", "kafka_client", "logs"},
    "files": {"unusable"},
    "http": {"tls"},
    "kafka": {"kafka_client"},
    "kafka_client": set(),
    "kafka_output": {"kafka_client"},
    "redis": {"tls"},
    "web": {"logs"},
}
CLIENTS = {
    "confluent_kafka", "httpx", "hypercorn", "msgpack", "prometheus_client", "pyarrow", "quart", "quart_trio", "redis", "werkzeug",
}  # fmt: skip
# No task, no clock, no input or output, no log, no chance that a test could not decide.
IMPURE = CLIENTS | {
    "asyncio", "http.client", "http.server", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "random",
    "secrets", "select", "shutil", "signal", "socket", "ssl", "structlog", "subprocess", "sys", "tempfile", "threading",
    "time", "trio", "urllib.request", "uuid",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "now", "utcnow", "today"}
ASYNC = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def imported(tree: ast.AST) -> set[str]:
    """Full names of all that is imported anywhere in a file; `from a import b` gives a.b, for b may be a module."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read anywhere"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def called(tree: ast.AST) -> set[str]:
    """Last names of all that is called: `now` of `datetime.now()`."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        call.id if isinstance(call, ast.Name) else call.attr
        for call in calls
        if isinstance(call, (ast.Name, ast.Attribute))
    }


def faults(file: Path, source: str) -> set[str]:
    tree = ast.parse(source)
    stratum, names = file.parts[1], imported(tree)
    found = set()
    if stratum in MAY_IMPORT:
        ours = {name.split(".")[1] for name in names if name.startswith("tss.")} - {"__version__"}
        found |= {f"imports tss.{name}" for name in ours - MAY_IMPORT[stratum]}
    banned = {"core": IMPURE, "edges": set()}.get(stratum, CLIENTS)
    found |= {f"imports {module}" for module in banned for name in names if f"{name}.".startswith(f"{module}.")}
    if stratum == "core":
        found |= {f"has {type(node).__name__}" for node in ast.walk(tree) if isinstance(node, ASYNC)}
        found |= {f"calls {name}" for name in called(tree) & IMPURE_CALLS}
    return found


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_one_way_and_the_core_is_pure(file: Path) -> None:
    assert faults(file, (ROOT / file).read_text()) == set()


def arrows(sources: Iterable[tuple[Path, str]]) -> dict[str, set[str]]:
    """By room of `edges`, a package or a module beside them: the other rooms that it imports."""
    found: dict[str, set[str]] = {}
    for file, source in sources:
        room = file.relative_to("tss/edges").parts[0].removesuffix(".py")
        names = imported(ast.parse(source))
        rooms = {name.split(".")[2] for name in names if name.startswith("tss.edges.")}
        found.setdefault(room, set()).update(rooms - {room})
    return found


def circle(found: dict[str, set[str]]) -> set[str]:
    """Rooms that no order of floors can hold: those left when each room that imports nothing more is taken away."""
    left = {room: set(others) for room, others in found.items()}
    while floor := {room for room, others in left.items() if not others & left.keys()}:
        left = {room: others for room, others in left.items() if room not in floor}
    return set(left)


EDGES = [
    (file, (ROOT / file).read_text()) for file in FILES if file.is_relative_to("tss/edges") and len(file.parts) > 2
]


@pytest.mark.parametrize("room", ROOMS)
def test_a_package_of_edges_imports_only_what_it_may(room: str) -> None:
    assert arrows(EDGES)[room] <= ROOMS[room]


def test_the_rooms_of_edges_form_no_circle() -> None:
    found = arrows(EDGES)
    assert {file.parts[2] for file, _ in EDGES if len(file.parts) == 4} == ROOMS.keys(), "each package has its rule"
    assert circle(found) == set()


def test_the_guard_sees_a_circle() -> None:
    sources = {"a/x": "from tss.edges.b import y", "b/y": "from tss.edges.c import z", "c": "import tss.edges.a.x"}
    found = arrows((Path(f"tss/edges/{name}.py"), source) for name, source in sources.items())
    assert found == {"a": {"b"}, "b": {"c"}, "c": {"a"}}
    assert circle(found | {"d": {"a"}, "e": set()}) == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("tss/core/a.py", "import trio", "imports trio"),
        ("tss/core/a.py", "def f():\n    from time import monotonic", "imports time"),
        ("tss/core/a.py", "from tss.settings import Settings", "imports tss.settings"),
        ("tss/core/a.py", "from tss import tasks", "imports tss.tasks"),
        ("tss/core/a.py", "async def f(): pass", "has AsyncFunctionDef"),
        ("tss/core/a.py", "print(1)", "calls print"),
        ("tss/core/a.py", "import datetime\ndatetime.datetime.now()", "calls now"),
        ("tss/tasks/a.py", "from tss.edges import kafka", "imports tss.edges"),
        ("tss/tasks/a.py", "import httpx", "imports httpx"),
        ("tss/edges/a.py", "from tss.tasks import consumer", "imports tss.tasks"),
        ("tss/daemon/a.py", "import confluent_kafka", "imports confluent_kafka"),
    ],
)
def test_the_guard_sees_what_it_guards_against(file: str, source: str, fault: str) -> None:
    assert faults(Path(file), source) == {fault}


def runs(source: str) -> int:
    """How many async functions or methods named `run` a module has."""
    return sum(isinstance(node, ast.AsyncFunctionDef) and node.name == "run" for node in ast.walk(ast.parse(source)))


def test_each_module_of_tasks_has_one_run_and_those_of_state_have_none() -> None:
    found = {
        path: runs(path.read_text()) for stratum in ("tasks", "state") for path in (ROOT / "tss" / stratum).glob("*.py")
    }
    assert {path for path, count in found.items() if count} == {*(ROOT / "tss" / "tasks").glob("[a-z]*.py")}
    assert max(found.values()) == 1


def unwatched(source: str) -> list[str]:
    """The tasks that a module of the daemon starts without the crew."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"start", "start_soon"}
    ]
    begun = [ast.unparse(each.args[0]) for each in calls if ast.unparse(each.func) != "crew.start"]
    return [each for each in begun if each != "crew.watch"]


def test_law_1_the_death_of_any_task_of_the_daemon_is_seen() -> None:
    """Or it would let the last commit through. The committer sees its own."""
    sources = {path.stem: path.read_text() for path in (ROOT / "tss" / "daemon").glob("*.py")}
    found = {name: begun for name, source in sources.items() if (begun := unwatched(source))}
    assert found == {"selection": ["commit_and_settle"]}
    pulse = 'crew.start(house, "pulse", pulse.run, meter)'
    assert pulse in sources["supervisor"]
    assert unwatched(sources["supervisor"].replace(pulse, "house.start_soon(pulse.run, meter)")) == ["pulse.run"]


def test_a_trace_and_a_partition_do_not_know_each_other() -> None:
    """Neither imports the other, not even for its types: between them stands `tss.core.progress`."""
    for one, other in (("trace", "partition"), ("partition", "trace")):
        for form in ("py", "pxd"):
            source = (ROOT / "tss" / "core" / f"{one}.{form}").read_text()
            assert f"tss.core.{other} " not in source, f"{one}.{form} imports {other}"
            assert f"tss.core import {other}" not in source, f"{one}.{form} imports {other}"
