"""Which way imports go, and what `core` must not know (ARCHITECTURE.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "tss").rglob("*.py"))

# What each stratum may import of tss; `daemon` and `__main__` join them and may import anything.
MAY_IMPORT = {
    "core": {"core"},
    "settings": {"settings"},
    "tasks": {"core", "tasks"},
    "edges": {"core", "edges", "settings"},
}
CLIENTS = {"confluent_kafka", "httpx", "hypercorn", "msgpack", "prometheus_client", "quart", "quart_trio", "redis"}
# No task, no clock, no input or output, no log, no chance that a test could not decide.
IMPURE = CLIENTS | {
    "asyncio", "datetime", "http", "io", "logging", "multiprocessing", "os", "pathlib", "queue", "random", "secrets",
    "select", "shutil", "signal", "socket", "ssl", "structlog", "subprocess", "sys", "tempfile", "threading", "time",
    "trio", "urllib", "uuid",
}  # fmt: skip


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


def faults(file: Path, source: str) -> set[str]:
    tree = ast.parse(source)
    stratum = file.parts[1]
    names = imported(tree)
    tops = {name.split(".")[0] for name in names}
    found = set()
    if stratum in MAY_IMPORT:
        ours = {name.split(".")[1] for name in names if name.startswith("tss.")} - {"__version__"}
        found |= {f"imports tss.{name}" for name in ours - MAY_IMPORT[stratum]}
    if stratum != "edges":
        found |= {f"imports {name}" for name in tops & CLIENTS}
    if stratum == "core":
        found |= {f"imports {name}" for name in tops & IMPURE}
        impure = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
        found |= {f"has {type(node).__name__}" for node in ast.walk(tree) if isinstance(node, impure)}
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        found |= {f"calls {name}" for name in calls & {"open", "print", "input"}}
    return found


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_one_way_and_the_core_is_pure(file: Path) -> None:
    assert faults(file, (ROOT / file).read_text()) == set()


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("tss/core/a.py", "import trio", "imports trio"),
        ("tss/core/a.py", "def f():\n    from time import monotonic", "imports time"),
        ("tss/core/a.py", "from tss.settings import Settings", "imports tss.settings"),
        ("tss/core/a.py", "from tss import tasks", "imports tss.tasks"),
        ("tss/core/a.py", "async def f(): pass", "has AsyncFunctionDef"),
        ("tss/core/a.py", "print(1)", "calls print"),
        ("tss/tasks/a.py", "from tss.edges import kafka", "imports tss.edges"),
        ("tss/tasks/a.py", "import httpx", "imports httpx"),
        ("tss/edges/a.py", "from tss.tasks import consumer", "imports tss.tasks"),
        ("tss/daemon.py", "import confluent_kafka", "imports confluent_kafka"),
    ],
)
def test_the_guard_sees_what_it_guards_against(file: str, source: str, fault: str) -> None:
    assert faults(Path(file), source) == {fault}
