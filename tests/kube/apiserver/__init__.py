"""Kubernetes' API server: its own Go code, built here.

Once into .cache/, by the hash of go.mod and main.go: when first asked, or by `python -m tests.kube.apiserver`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

from toolchain import go

SOURCE = Path(__file__).parent
CACHE = SOURCE.parents[2] / ".cache" / "apiserver"
BUILD_SECS = 1500
VERSION = "1.34.2"


def binary() -> Path:
    """kube-apiserver, built if need be. Raises subprocess.CalledProcessError, toolchain.pip.Failed without Go."""
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go")))
    found = CACHE / f"kube-apiserver-{digest.hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one builds, the others wait for it
        if not found.exists():
            _build(found)
    return found


def _build(found: Path) -> None:
    version = "-X k8s.io/component-base/version."
    major, minor, _ = VERSION.split(".")
    stamped = f"-s -w {version}gitVersion=v{VERSION} {version}gitMajor={major} {version}gitMinor={minor}"
    command = [str(go(SOURCE)), "build", "-trimpath", "-ldflags", stamped, "-o", f"{found}.new", "."]
    subprocess.run(command, cwd=SOURCE, check=True, timeout=BUILD_SECS, env=os.environ | {"CGO_ENABLED": "0"})
    Path(f"{found}.new").rename(found)
