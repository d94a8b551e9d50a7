"""The two locks: what the image has is what the tests ran with, and nothing of it is missing."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def pins(name: str) -> dict[str, str]:
    """By package its version and its hashes, as they stand there."""
    text = (ROOT / name).read_text()
    return {
        found[1]: found[2] + " ".join(re.findall(r"sha256:\w+", found[3]))
        for found in re.finditer(r"^([a-z0-9.-]+)==([^ ]+) \\\n((?: +--hash.*\n)+)", text, re.MULTILINE)
    }


def required(extra: str = "") -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines}


def test_the_image_has_what_the_tests_ran_with() -> None:
    runtime, all_of_it = pins("requirements-runtime.lock"), pins("requirements.lock")
    assert runtime and {name: all_of_it.get(name) for name in runtime} == runtime


def test_the_image_has_all_that_the_daemon_needs_and_nothing_of_the_tests() -> None:
    runtime = pins("requirements-runtime.lock")
    assert required() <= runtime.keys()
    assert not (required("dev") - required() - {"setuptools"}) & runtime.keys()


def closure(python: str) -> set[str]:
    """All that the daemon needs on that Python, by what the installed packages say of themselves."""
    found: set[tuple[str, str]] = set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [(Requirement(line), "") for line in project["dependencies"]]
    while waiting:
        need, extra = waiting.pop()
        where = {"python_full_version": python, "python_version": python.rpartition(".")[0], "extra": extra}
        if need.marker and not need.marker.evaluate(where):
            continue
        for each in (need.extras or set()) | {""}:
            name = canonicalize_name(need.name)
            if (name, each) not in found:
                found.add((name, each))
                waiting += [(Requirement(line), each) for line in metadata.requires(name) or ()]
    return {name for name, _ in found}


@pytest.mark.parametrize("python", ["3.11.0", "3.11.2", "3.11.7", "3.12.0", "3.13.0", "3.14.0"])
def test_the_image_has_all_that_its_packages_need_on_every_python(python: str) -> None:
    """A lock is made on one Python; `--require-hashes` and `--no-deps` would only notice at run time."""
    assert closure(python) <= pins("requirements-runtime.lock").keys()


def test_no_lock_names_where_packages_come_from() -> None:
    for file in ROOT.rglob("*.lock"):
        if not {".venv", ".cache"} & set(file.relative_to(ROOT).parts):
            assert not re.search(r"https?://|--index-url|--find-links", file.read_text()), file
