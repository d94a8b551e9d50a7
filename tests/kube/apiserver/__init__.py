"""Kubernetes' API server: its own Go code, built here.

Once into .cache/, by the hash of its source: when first asked, or by `python -m tests.kube.apiserver`.
"""

from __future__ import annotations

from pathlib import Path

from toolchain.programs import built

VERSION = "1.34.2"


def binary() -> Path:
    """kube-apiserver, built if need be. Raises programs.Unbuilt, and toolchain.pip.Failed without Go."""
    version = "-X k8s.io/component-base/version."
    major, minor, _ = VERSION.split(".")
    stamps = f"{version}gitVersion=v{VERSION} {version}gitMajor={major} {version}gitMinor={minor}"
    return built(Path(__file__).parent, "apiserver", linked=stamps)
