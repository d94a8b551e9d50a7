"""Which Java, Go and C compiler is taken, and what is said when one cannot be fetched."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import toolchain
from toolchain import jars, pip, programs, wheels

ROOT = Path(__file__).resolve().parents[1]


def command(folder: Path, name: str, script: str) -> Path:
    """A program of that name, first and alone on the PATH but for the shell."""
    made = folder / name
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)
    return made


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    toolchain.java.cache_clear()
    toolchain.go.cache_clear()
    yield
    toolchain.java.cache_clear()
    toolchain.go.cache_clear()


@pytest.fixture
def on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("TSS_BUILD", raising=False)
    return folder


@pytest.fixture
def wheels_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is fetched here: the real wheels are what `.ci/bare` runs with."""
    asked: list[str] = []

    def unpacked(name: str) -> Path:
        asked.append(name)
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    monkeypatch.setattr(toolchain, "unpacked", unpacked)
    return asked


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("echo 'openjdk version \"17.0.15\" 2025-04-15' >&2", True),
        ("echo 'openjdk version \"25\" 2025-09-16' >&2", True),
        ("echo 'openjdk version \"11.0.25\" 2024-10-15' >&2", False),
        ("echo 'java version \"1.8.0_402\"' >&2", False),
        ("echo 'Unable to locate a Java Runtime.' >&2; exit 1", False),  # macOS
    ],
)
def test_the_machines_java_is_taken_from_17_on(on_the_path: Path, wheels_asked_for: list[str], said, taken) -> None:
    own = command(on_the_path, "java", said)
    assert (toolchain.java() == own, wheels_asked_for) == (taken, [] if taken else ["java"])


@pytest.mark.parametrize(
    ("version", "taken"), [("1.26", True), ("1.26.8", True), ("1.27rc1", True), ("1.25.9", False), ("1.9.7", False)]
)
def test_the_machines_go_is_taken_if_it_can_build(
    on_the_path: Path, wheels_asked_for: list[str], tmp_path: Path, version: str, taken: bool
) -> None:
    (tmp_path / "go.mod").write_text("module a\n\ngo 1.26.0\n")
    own = command(on_the_path, "go", f'[ "$GOTOOLCHAIN" = local ] && echo "go version go{version} linux/amd64"')
    assert (toolchain.go(tmp_path) == own, wheels_asked_for) == (taken, [] if taken else ["go"])
    assert toolchain.go() == own, "where there is no go.mod any will do"


def test_without_java_and_go_they_come_from_wheels(on_the_path: Path, wheels_asked_for: list[str]) -> None:
    assert toolchain.java().name == "java" and toolchain.go().name == "go"
    assert wheels_asked_for == ["java", "go"]


@pytest.fixture
def one_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its source."""
    monkeypatch.setattr(programs, "CACHE", tmp_path / "cache")
    source = tmp_path / "source"
    source.mkdir()
    (source / "go.mod").write_text("module a\n\ngo 1.26.0\n")
    (source / "main.go").write_text("package main\n")
    return source


IS_GO = '[ "$1" = version ] && { echo "go version go1.26.0 linux/amd64"; exit; };'


def test_a_program_is_built_once_for_each_source(
    on_the_path: Path, wheels_asked_for: list[str], one_program: Path
) -> None:
    # After -o stands where to; what is called when is told there.
    command(on_the_path, "go", f'{IS_GO} while [ "$1" != -o ]; do shift; done; echo built >> "$2"')
    made = programs.built(one_program, "judge")
    assert (programs.built(one_program, "judge"), made.read_text(), made.parent.name) == (made, "built\n", "judge")
    (one_program / "main.go").write_text("package main // another\n")
    assert (other := programs.built(one_program, "judge")) != made and other.read_text() == "built\n"
    assert programs.built(one_program, "judge", linked="-X a=b") not in {made, other}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("x.go:1:2: dial tcp: lookup proxy.golang.org: no such host", "GOPROXY"),
        ("./main.go:3:1: syntax error: non-declaration statement", "Go said:\n./main.go:3:1: syntax error"),
    ],
)
def test_a_program_that_cannot_be_built_says_what_to_do(
    on_the_path: Path, wheels_asked_for: list[str], one_program: Path, said: str, told: str
) -> None:
    command(on_the_path, "go", f"{IS_GO} echo '{said}' >&2; exit 1")
    for _ in range(2):
        with pytest.raises(programs.Unbuilt, match=r"^judge cannot be built") as raised:
            programs.built(one_program, "judge")
        assert told in str(raised.value) and ("GOPROXY" in str(raised.value)) == ("dial" in said)


def test_a_compiler_has_to_compile(on_the_path: Path, wheels_asked_for: list[str], monkeypatch) -> None:
    """One that is there and lacks the C library's headers does not."""
    for name in ("cc", "gcc", "clang"):
        command(on_the_path, name, "echo 'stdio.h: No such file or directory' >&2; exit 1")
    compiler = Path(toolchain.cc())
    assert wheels_asked_for == ["cc"] and os.access(compiler, os.X_OK)
    for name in ("cc", "gcc", "clang"):
        command(on_the_path, name, "exit 0")
    assert toolchain.cc() == "" and wheels_asked_for == ["cc"]


def test_the_compiler_that_python_names_need_not_be_the_one_that_is_there(
    on_the_path: Path, wheels_asked_for: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "gone-gcc -pthread")
    command(on_the_path, "cc", "exit 0")
    assert toolchain.cc() == "cc" and not wheels_asked_for


def test_no_compiler_is_fetched_in_vain(
    on_the_path: Path, wheels_asked_for: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TSS_BUILD", "python")
    assert toolchain.cc() == "" and not capsys.readouterr().err
    monkeypatch.delenv("TSS_BUILD")
    monkeypatch.setattr("toolchain.sysconfig.get_path", lambda name: str(on_the_path))
    assert toolchain.cc() == "" and not wheels_asked_for
    assert "Python.h" in (said := capsys.readouterr().err) and said.count("\n") == 1


@pytest.fixture
def one_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A lock for a package that an index of the test's own has, and its line."""
    monkeypatch.setattr(wheels, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(wheels, "HOME", tmp_path / "home")
    monkeypatch.setattr(pip, "LOG", tmp_path / "pip.log")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    source = tmp_path / "source"
    (source / "onetool").mkdir(parents=True)
    (source / "onetool" / "__init__.py").touch()
    (source / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='onetool', version='1', packages=['onetool'])"
    )
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "-w",
        str(tmp_path / "index"),
        str(source),
    ]
    subprocess.run(build, check=True)
    (wheel,) = (tmp_path / "index").iterdir()
    (tmp_path / "locks").mkdir()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = tmp_path / "locks" / "one.lock"
    lock.write_text(f"onetool==1 --hash=sha256:{digest}\n")
    return lock, digest


def test_a_wheel_is_unpacked_once_and_anew_when_its_lock_changes(one_wheel: tuple[Path, str]) -> None:
    lock, _ = one_wheel
    place = wheels.unpacked("one")
    assert (place / "onetool" / "__init__.py").is_file()
    (place / "mark").touch()
    assert wheels.unpacked("one") == place and (place / "mark").exists()
    lock.write_text(lock.read_text() + "\n")
    assert wheels.unpacked("one") == place and not (place / "mark").exists()


def test_a_wheel_that_is_not_the_locks_is_refused_in_one_line(one_wheel: tuple[Path, str]) -> None:
    lock, digest = one_wheel
    lock.write_text(lock.read_text().replace(digest, "0" * 64))
    with pytest.raises(pip.Failed, match="HASHES") as failure:
        wheels.unpacked("one")
    assert "\n" not in str(failure.value) and digest in pip.LOG.read_text()
    assert not (wheels.HOME / "one" / "installed.lock").exists()


@pytest.mark.parametrize("environment", [
    {"PIP_NO_INDEX": "1"},
    {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "1", "PIP_NO_INDEX": "0"},
], ids=["none", "away"])  # fmt: skip
def test_a_missing_index_is_told_in_one_line_with_what_to_do(environment: dict[str, str], tmp_path: Path) -> None:
    lock = tmp_path / "one.lock"
    lock.write_text(f"onetool==1 --hash=sha256:{'0' * 64}\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    done = subprocess.run(
        [sys.executable, "-m", "toolchain", "pip", "install", "--require-hashes", "-r", str(lock)],
        cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no package index answered for onetool==1: ") and "PIP_INDEX_URL" in done.stderr
    assert done.stderr.count("\n") == 1


JAR = b"a jar"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A Maven repository with one jar, named as the machine's mirror; the paths that it was asked for."""
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            there = self.path == "/maven/org/one/one/1.0/one-1.0.jar"
            self.send_response(200 if there else 404)
            self.end_headers()
            self.wfile.write(JAR if there else b"")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        settings = tmp_path / "settings.xml"
        settings.write_text(
            '<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><mirrors><mirror><mirrorOf>central</mirrorOf>'
            f"<url>http://127.0.0.1:{server.server_port}/maven</url></mirror></mirrors></settings>"
        )
        monkeypatch.setattr(jars, "SETTINGS", settings)
        yield asked
        server.shutdown()
        serving.join()


def lock_of(folder: Path, **jar: bytes) -> Path:
    lock = folder / "jars.lock"
    lines = [f"org.one:{name}:1.0 sha256:{hashlib.sha256(content).hexdigest()}\n" for name, content in jar.items()]
    lock.write_text("# Made by make lock.\n" + "".join(lines))
    return lock


def test_jars_are_what_their_lock_says_and_fetched_once(tmp_path: Path, repository: list[str]) -> None:
    lock, into = lock_of(tmp_path, one=JAR), tmp_path / "jars"
    into.mkdir()
    (into / "one-0.9.jar").write_bytes(b"of an older lock")
    for _ in range(2):
        jars.fetch(lock, into)
        assert {jar.name: jar.read_bytes() for jar in into.iterdir()} == {"one-1.0.jar": JAR}
    assert len(repository) == 1


def test_a_jar_that_is_not_the_locks_is_refused(tmp_path: Path, repository: list[str]) -> None:
    lock, into = lock_of(tmp_path, one=b"another"), tmp_path / "jars"
    with pytest.raises(jars.NotFetched, match=r"org.one:one:1.0 has sha256:.*its lock says sha256:"):
        jars.fetch(lock, into)
    assert not into.exists()


def test_a_jar_that_is_missing_is_named(tmp_path: Path, repository: list[str]) -> None:
    lock, into = lock_of(tmp_path, one=JAR, two=b"two"), tmp_path / "jars"
    with pytest.raises(jars.NotFetched, match=r"^org.one:two:1.0 .* 404 .*settings.xml$"):
        jars.fetch(lock, into)
    assert not into.exists()
