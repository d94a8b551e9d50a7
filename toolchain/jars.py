"""Java's jars, each pinned by its SHA-256 in a lock: lines of `group:artifact:version sha256:...`.

They come by the Maven client of `maven.lock`, from the mirror in the machine's ~/.m2/settings.xml or the client's own default.
Only who makes a lock anew needs Maven itself, which finds what depends on what: `python -m toolchain.jars POM LOCK`.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from xml.etree import ElementTree as ET

from toolchain.wheels import unpacked

AT_A_TIME = 8
SETTINGS = Path.home() / ".m2" / "settings.xml"


class NotFetched(Exception):
    """One line: which jar, and why."""


def fetch(lock: Path, into: Path) -> None:
    """Put exactly these jars into the folder, unless they are there. Raises NotFetched, pip.Failed."""
    wanted = dict(line.split() for line in lock.read_text().splitlines() if not line.startswith("#"))
    names = {_name(coordinates): coordinates for coordinates in wanted}
    present = {jar.name for jar in into.glob("*") if _sum(jar) == wanted.get(names.get(jar.name, ""))}
    if into.is_dir() and present == names.keys() == {jar.name for jar in into.iterdir()}:
        return
    unfinished = into.with_name(f"{into.name}.new")  # moved when complete; a torn one is gone on with
    if into.is_dir():
        into.rename(unfinished)
    unfinished.mkdir(parents=True, exist_ok=True)
    for jar in unfinished.iterdir():
        if _sum(jar) != wanted.get(names.get(jar.name, "")):
            jar.unlink()
    missing = [each for name, each in names.items() if not (unfinished / name).exists()]
    if missing:
        _download(missing, wanted, unfinished)
    unfinished.rename(into)


def _name(coordinates: str) -> str:
    """As Maven names the file."""
    _, artifact, version = coordinates.split(":")
    return f"{artifact}-{version}.jar"


def _sum(jar: Path) -> str:
    return f"sha256:{hashlib.sha256(jar.read_bytes()).hexdigest()}"


def _download(missing: list[str], wanted: dict[str, str], folder: Path) -> None:
    sys.path.append(str(unpacked("maven")))
    from maven_artifact import Artifact, Downloader, RequestException  # noqa: PLC0415  # there only now

    mirror = _mirror()
    client = Downloader(base=mirror) if mirror else Downloader()

    def one(coordinates: str) -> None:
        made = folder / f"{_name(coordinates)}.part"
        try:
            client.download(Artifact.parse(coordinates), str(made))
        except RequestException as error:
            raise NotFetched(
                f"{coordinates} is not to be had: {error.msg.splitlines()[-1]}; connect this machine, or name a mirror in {SETTINGS}"
            ) from error
        if _sum(made) != wanted[coordinates]:
            raise NotFetched(f"{coordinates} has {_sum(made)}, and its lock says {wanted[coordinates]}")
        made.rename(folder / _name(coordinates))

    with redirect_stdout(io.StringIO()), ThreadPoolExecutor(AT_A_TIME) as several:
        list(several.map(one, missing))


def _mirror() -> str:
    """The machine's mirror of the public repository, as Maven's own settings name it; "" if none."""
    if not SETTINGS.is_file():
        return ""
    for mirror in ET.parse(SETTINGS).iter():  # noqa: S314  # the user's own file
        if mirror.tag.endswith("}mirror") or mirror.tag == "mirror":
            said = {each.tag.rpartition("}")[2]: (each.text or "").strip() for each in mirror}
            if {"*", "central", "external:*"} & set(said.get("mirrorOf", "").split(",")):
                return said.get("url", "")
    return ""


def pin(pom: Path, lock: Path) -> None:
    """Write the lock: all that the project of the pom.xml depends on. Raises FileNotFoundError without Maven."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["-Dmdep.useRepositoryLayout=true", f"-DoutputDirectory={folder}"]
        subprocess.run(["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", *options], check=True)  # noqa: S607
        lines = []
        for jar in Path(folder).rglob("*.jar"):
            *group, artifact, version = jar.relative_to(folder).parts[:-1]
            coordinates = f"{'.'.join(group)}:{artifact}:{version}"
            if _name(coordinates) != jar.name:
                raise NotFetched(f"{jar.name} has a classifier, which a lock of jars cannot say")
            lines.append(f"{coordinates} {_sum(jar)}\n")
    lock.write_text("# Made from a pom.xml by `make lock`.\n" + "".join(sorted(lines)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m toolchain.jars POM LOCK")
    pin(Path(sys.argv[1]), Path(sys.argv[2]))
