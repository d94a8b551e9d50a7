"""The package as others get it: an sdist, and wheels built from it with a C compiler and without."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import tss
from toolchain import cc

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "from tss.core import buffer; from tss.core.otlp import SCANNER; print(SCANNER, buffer.__file__)"

COMPILER = {"CC": found} if (found := cc()) else {}

# Some are asked for by a setting only. (Parquet is an extra, and says so where it is missing.)
EVERY_MODULE = """
import importlib, pkgutil, tss
for module in pkgutil.walk_packages(tss.__path__, "tss."):
    if not module.name.endswith(("__main__", "parquet_table", "decision_table")):
        importlib.import_module(module.name)
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TSS_", "PYTHON"))}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean | COMPILER | environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, changed files as they are, and `make dist` done in them."""
    tree = tmp_path_factory.mktemp("tree") / "tss"
    made_here = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", *made_here))
    (tree / ".venv").mkdir()
    (tree / ".venv" / ".lock").touch()
    python = [f"PY={sys.executable}", f"PYTHON={sys.executable}"]
    # -O1 takes a third of the time: how fast it is, nobody asks here.
    run("make", "--assume-old=.venv/.lock", "dist", *python, cwd=tree, CFLAGS="-O1")
    return tree


@pytest.fixture
def source(released: Path, tmp_path: Path) -> Path:
    """The unpacked sdist."""
    (archive,) = released.glob("dist/*.tar.gz")
    run("tar", "xzf", archive, cwd=tmp_path)
    return tmp_path / archive.name.removesuffix(".tar.gz")


def installed(source: Path, place: Path, **environment: str) -> tuple[Path, str]:
    """A wheel of it, and what it says of itself once it is installed."""
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", place / "dist"]
    run(*command, cwd=source, **environment)
    (wheel,) = (place / "dist").glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place / "site", wheel, cwd=place)
    return wheel, run(sys.executable, "-c", QUESTION, cwd=place, PYTHONPATH=str(place / "site"))


def test_a_wheel_built_with_a_compiler_is_compiled(released: Path) -> None:
    (wheel,) = released.glob("dist/*.whl")
    compiled = {name.split(".")[0] for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")}
    written = {path.with_suffix("") for path in (released / "tss").rglob("*.pyx")}
    written |= {path.with_suffix("") for path in (released / "tss").rglob("*.pxd") if path.with_suffix(".py").exists()}
    assert compiled == {str(path.relative_to(released)) for path in written}


def test_the_wheel_runs_with_the_images_lock_and_nothing_else(released: Path, tmp_path: Path) -> None:
    python = released / ".cache" / "runtime" / "bin" / "python"
    said = run(python, "-I", "-c", QUESTION, cwd=tmp_path)
    assert said.startswith(f"compiled {python.parents[1]}") and said.strip().endswith(".so")
    settings = {"TSS_KAFKA_BROKERS": "kafka:9092", "TSS_DATADOG_API_KEY": "k", "TSS_REDIS_URL": "redis://redis:6379"}
    assert "kafka:9092" in run(python, "-I", "-m", "tss", "check", cwd=tmp_path, **settings)
    command = python.with_name("tss")
    assert run(command, "--version", cwd=tmp_path) == run(python, "-I", "-m", "tss", "--version", cwd=tmp_path)
    run(python, "-I", "-c", EVERY_MODULE, cwd=tmp_path)


def test_the_bill_of_materials_is_the_daemon_and_the_images_lock(released: Path) -> None:
    text = (released / "dist" / "sbom.cdx.json").read_text()
    assert str(released) not in text
    bill = json.loads(text)
    pinned = re.findall(r"^([a-z0-9.-]+)==([^ ]+) ", (ROOT / "requirements-runtime.lock").read_text(), re.MULTILINE)
    found = {(canonicalize_name(each["name"]), each["version"]) for each in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and found == {*pinned, ("tail-sampling-selector", tss.__version__)}
    assert all(each["purl"] for each in bill["components"])
    assert sum(bool(each.get("licenses")) for each in bill["components"]) > 0.9 * len(found)
    needs = {each["ref"].split("==")[0]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert {"trio", "confluent-kafka"} <= {need.split("==")[0] for need in needs["tail-sampling-selector"]}


@pytest.mark.parametrize("environment", [{"CC": "false"}, {"TSS_BUILD": "python"}], ids=["no compiler", "not wanted"])
def test_without_a_compiler_everything_is_interpreted(source: Path, tmp_path: Path, environment) -> None:
    wheel, said = installed(source, tmp_path, **environment)
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    assert said.startswith(f"protobuf {tmp_path}") and said.strip().endswith(".py")
