"""The locks: what the image and the demo have is what the tests ran with, nothing of it is missing, and all is pinned by hash."""

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
    return {canonicalize_name(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in lines}


@pytest.mark.parametrize("part", ["requirements-runtime.lock", "requirements-demo.lock"])
def test_the_image_and_the_demo_have_what_the_tests_ran_with(part: str) -> None:
    some, all_of_it = pins(part), pins("requirements.lock")
    assert some and {name: all_of_it.get(name) for name in some} == some


def test_the_demo_has_what_it_needs_and_nothing_of_the_tests() -> None:
    """Else a `make run` would fetch mypy, atheris and pyarrow for nothing, or a later `make test` another version."""
    demo = pins("requirements-demo.lock")
    assert required() | required("demo") <= demo.keys()
    assert pins("requirements-runtime.lock").keys() <= demo.keys()
    assert not required("dev") & demo.keys()


def test_the_image_has_all_that_the_daemon_needs_and_nothing_of_the_tests() -> None:
    runtime = pins("requirements-runtime.lock")
    assert required() <= runtime.keys()
    assert not ((required("dev") | required("demo")) - required() - {"setuptools"}) & runtime.keys()


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


LOCKS = sorted(
    file.relative_to(ROOT)
    for file in ROOT.rglob("*.lock")
    if not {".venv", ".cache"} & set(file.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_a_lock_pins_each_file_by_hash_and_does_not_name_where_it_comes_from(lock: Path) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"https?://|--index-url|--find-links", text)
    entries = re.split(r"\n(?=[a-z])", "\n" + re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE))[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[\w.:-]+(\[[\w,-]+\])?(==|:)[\w.-]+", entry) and re.search(r"sha256:[0-9a-f]{64}\b", entry), (
            entry
        )


def test_all_locks_are_made_by_one_command() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nlock: ")[2].partition("\n\n")[0]
    made = set(re.findall(r"--output-file (\S+)|(\S+\.lock)$", recipe, re.MULTILINE))
    assert {name for pair in made for name in pair if name} | {"tests/kube/tools.lock"} == set(map(str, LOCKS))
    assert "tests.kube.tools lock" in recipe


def test_the_jars_are_those_that_the_pom_asks_for() -> None:
    """`make lock` has to follow a new version of Apache Kafka."""
    pom = (ROOT / "tests/real/kafka.pom.xml").read_text()
    asked = re.findall(
        r"<dependency>\s*<groupId>(.+)</groupId>\s*<artifactId>(.+)</artifactId>\s*<version>(.+)</version>", pom
    )
    jars = (ROOT / "tests/real/kafka-jars.lock").read_text()
    assert asked and all(f"\n{':'.join(each)} sha256:" in jars for each in asked)
