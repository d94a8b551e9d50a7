"""The two locks: what the image has is what the tests ran with, and nothing of it is missing."""

import re
import tomllib
from pathlib import Path

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


def test_no_lock_names_where_packages_come_from() -> None:
    for file in ROOT.rglob("*.lock"):
        if not {".venv", ".cache"} & set(file.relative_to(ROOT).parts):
            assert not re.search(r"https?://|--index-url|--find-links", file.read_text()), file
