"""pip, with one line in place of all it says where it fails."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LOG = Path(__file__).resolve().parents[1] / ".cache" / "pip.log"
# pip tries a host that does not answer again and says so; with PIP_NO_INDEX it looks nowhere.
_UNREACHED = re.compile(r"Retrying \(Retry\(|\(from versions: none\)|Could not fetch URL|ConnectionError|ReadTimeout")


class Failed(Exception):
    """One line: what happened and what to do."""


def run(*arguments: str | Path, python: str | Path = sys.executable) -> None:
    """`python -m pip` with these arguments. Raises Failed; what pip said is then in .cache/pip.log."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, arguments)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        LOG.parent.mkdir(parents=True, exist_ok=True)
        LOG.write_text(f"$ {' '.join(command)}\n{done.stdout}")
        raise Failed(_in_one_line(done.stdout))


def _in_one_line(said: str) -> str:
    if _UNREACHED.search(said):
        package = re.search(r"No matching distribution found for ([^\s(]+)", said)
        wanted = f" for {package[1]}" if package else ""
        return (
            f"no package index answered{wanted}: connect this machine, or name an index that it reaches in PIP_INDEX_URL,"
            f" then run make again (all that pip said: {LOG})"
        )
    errors = re.findall(r"^ERROR: (.+)", said, re.MULTILINE) or said.strip().splitlines()[-1:] or ["it said nothing"]
    return f"pip failed: {errors[0]} (all that pip said: {LOG})"
