"""Helm run on the chart, and what it renders as objects."""

from __future__ import annotations

import base64
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.kube import tools
from tss.settings import Settings, load

CHART = tools.ROOT / "helm-charts" / "tail-sampling-selector"
VALUES = sorted((CHART / "ci").glob("*.yaml"))
RELEASE, NAMESPACE = "tail-sampling-selector", "tail-sampling"

Objects = list[dict[str, Any]]


def run(version: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tools.helm(version)), *arguments], check=False, capture_output=True, text=True, timeout=60
    )


def template(*values: Path | str, version: int = 3, kubernetes: str = "1.37.0", upgrade: bool = False) -> str:
    """What helm renders of values files and `--set` texts; raises Refused with its message."""
    given = [each for value in values for each in (["-f", str(value)] if isinstance(value, Path) else ["--set", value])]
    where = ["--namespace", NAMESPACE, "--kube-version", kubernetes, *(["--is-upgrade"] if upgrade else [])]
    done = run(version, "template", RELEASE, str(CHART), *where, *given)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def rendered(*values: Path | str, version: int = 3, kubernetes: str = "1.37.0") -> Objects:
    text = template(*values, version=version, kubernetes=kubernetes)
    return [each for each in yaml.safe_load_all(text) if each]


class Refused(Exception):
    """Helm would not render it."""


def only(objects: Objects, kind: str, name: str = "") -> dict[str, Any]:
    found = [each for each in objects if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {[each['metadata']['name'] for each in found]}"
    return found[0]


def kinds(objects: Objects) -> set[str]:
    return {each["kind"] for each in objects}


def container(objects: Objects) -> dict[str, Any]:
    workload = next(each for each in objects if each["kind"] in ("Deployment", "StatefulSet"))
    found = workload["spec"]["template"]["spec"]["containers"]
    return dict(found[0])


def settings(objects: Objects, **elsewhere: str) -> Settings:
    """As the daemon in such a pod would read them; `elsewhere` is what Secrets beside the chart hold.

    Raises tss.settings.SettingsError.
    """
    variables = {each["name"]: each["value"] for each in container(objects)["env"] if "value" in each}
    for each in objects:
        if each["kind"] == "Secret":
            variables |= {name: base64.b64decode(value).decode() for name, value in each["data"].items()}
    text = next(each["data"]["tss.yaml"] for each in objects if "tss.yaml" in each.get("data", {}))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return load(file.name, variables | elsewhere | {"TSS_CONFIG": file.name})
