"""The package as others get it: an sdist, and wheels built from it with a C compiler and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "from tss.core import buffer; from tss.core.otlp import SCANNER; print(SCANNER, buffer.__file__)"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TSS_", "PYTHON"))}
    done = subprocess.run(
        command, cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist of what is under version control, changed files as they are."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("sdist")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "-o", out, cwd=tree, TSS_BUILD="python")
    (archive,) = out.glob("*.tar.gz")
    run("tar", "xzf", archive, cwd=out)
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


def installed(source: Path, place: Path, **environment: str) -> tuple[Path, str]:
    """A wheel of it, and what it says of itself once it is installed. (What Cython made of the source is used again.)"""
    for old in [*source.glob("build/lib*"), *source.glob("build/temp*"), *source.glob("build/bdist*")]:
        shutil.rmtree(old)
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", place / "dist"]
    run(*command, cwd=source, **environment)
    (wheel,) = (place / "dist").glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place / "site", wheel, cwd=place)
    return wheel, run(sys.executable, "-c", QUESTION, cwd=place, PYTHONPATH=str(place / "site"))


def test_a_wheel_built_with_a_compiler_is_compiled(source: Path, tmp_path: Path) -> None:
    wheel, said = installed(source, tmp_path)
    compiled = {name.split(".")[0] for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")}
    written = {path.with_suffix("") for path in (source / "tss").rglob("*.pyx")}
    written |= {path.with_suffix("") for path in (source / "tss").rglob("*.pxd") if path.with_suffix(".py").exists()}
    typed = {str(path.relative_to(source)) for path in written}
    assert compiled == typed
    assert said.startswith(f"compiled {tmp_path}") and said.strip().endswith(".so")


@pytest.mark.parametrize("environment", [{"CC": "false"}, {"TSS_BUILD": "python"}], ids=["no compiler", "not wanted"])
def test_without_a_compiler_everything_is_interpreted(source: Path, tmp_path: Path, environment) -> None:
    wheel, said = installed(source, tmp_path, **environment)
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    assert said.startswith(f"protobuf {tmp_path}") and said.strip().endswith(".py")
