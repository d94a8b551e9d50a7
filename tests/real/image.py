"""The image built and run without a Docker engine: a base from Debian's packages, buildah, podman.

No registry of images is asked: the base that the Dockerfile names is made by debootstrap (40 s) into `.cache/image`, once, with
Debian's own Python 3.11. Needs root, as debootstrap does; `apt-get` brings the tools where they are missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.brokers import ROOT

HOME = ROOT / ".cache" / "image"
BASE = "docker.io/library/python:3.11-slim"
IMAGE = "localhost/tail-sampling-selector:test"
IMAGE_WITH_PARQUET = "localhost/tail-sampling-selector:test-parquet"
TOOLS = ("buildah", "podman", "runc", "debootstrap")
# What this machine's packages are verified and found by, for the steps that download; none of it gets into the image.
_FROM_HERE = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/apt/apt.conf.d")


def prepare() -> None:
    """The tools, and the base image."""
    HOME.mkdir(parents=True, exist_ok=True)
    if os.geteuid():
        raise RuntimeError("the image is built by debootstrap and buildah, which need root here")
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        install = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends"]
        subprocess.run([*install, *missing], check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        _import(_base())


def _base() -> Path:
    """A tree of Debian with Python and its headers, as the official image has them."""
    ready, tree = HOME / "ready", HOME / "base"
    if not ready.exists():
        shutil.rmtree(HOME, ignore_errors=True)
        tree.mkdir(parents=True)
        packages = "--include=ca-certificates,python3,python3-venv,python3-dev"
        subprocess.run(
            ["debootstrap", "--variant=minbase", packages, "bookworm", str(tree)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (tree / "usr" / "bin" / "python").symlink_to("python3")
        for package in (tree / "var" / "cache" / "apt" / "archives").glob("*.deb"):
            package.unlink()
        ready.touch()
    return tree


def _import(tree: Path) -> None:
    with subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["podman", "import", "--quiet", "-", BASE], stdin=tar.stdout, check=True)


def build(tag: str = IMAGE, *arguments: str) -> float:
    """Build it from the working tree; returns the seconds. Raises RuntimeError with the end of what buildah said.

    ``arguments`` are build arguments as NAME=value.
    """
    prepare()
    began = time.monotonic()
    volumes = [f"--volume={path}:{path}:ro" for path in _FROM_HERE if Path(path).exists()]
    how = ["--isolation", "chroot", "--network", "host", "--pull-never", "--format", "docker"]
    given = [f"--build-arg={each}" for each in ("VERSION=0.0.1-test", "REVISION=of-a-test", *arguments)]
    done = subprocess.run(
        ["buildah", "bud", *how, *volumes, *given, "-t", tag, "."],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"buildah ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return time.monotonic() - began


def podman(*arguments: str) -> subprocess.CompletedProcess[str]:
    # conmon leaves a file "oom" where it is started.
    return subprocess.run(["podman", *arguments], check=False, cwd=HOME, capture_output=True, text=True, timeout=60)


# As the chart's pod has it.
_LOCKED_UP = (
    "--read-only", "--user=1000:1000", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host",
    # Without systemd podman has nobody to run it; the test runs its command itself.
    "--no-healthcheck", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024",
)  # fmt: skip


@contextmanager
def running(
    name: str, *options: str, entrypoint: tuple[str, ...] = (), arguments: tuple[str, ...] = (), tag: str = IMAGE
) -> Iterator[str]:
    """A container of the image, removed afterwards; `entrypoint` in place of the daemon."""
    instead = [f"--entrypoint={entrypoint[0]}"] if entrypoint else []
    run = ["--runtime", "runc", "--cgroup-manager=cgroupfs", "run", "--detach", f"--name={name}"]
    done = podman(*run, *_LOCKED_UP, *instead, *options, tag, *entrypoint[1:], *arguments)
    assert done.returncode == 0, done.stderr
    try:
        yield name
    finally:
        podman("rm", "--force", "--time", "0", name)


if __name__ == "__main__":
    prepare()
