"""Prometheus and promtool, from Debian's package, unpacked and never installed.

`python -m tests.real.prometheus` fetches them into `.cache/prometheus`, once. apt checks the package's signature. Debian's
is 17 MB and there in a second; built from its Go modules it would take minutes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.real.brokers import HOST, ROOT, free_ports
from tests.real.process import ServerProcess

HOME = ROOT / ".cache" / "prometheus"
PROMTOOL = HOME / "usr" / "bin" / "promtool"
_SERVER = HOME / "usr" / "bin" / "prometheus"


def fetch() -> None:
    """Download and unpack it, unless it is there."""
    if PROMTOOL.is_file() and _SERVER.is_file():
        return
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    download = ["apt-get", "download", "-qq", "prometheus"]
    if subprocess.run(download, cwd=HOME, check=False, capture_output=True).returncode:
        # The lists of packages are missing or old; only root may renew them.
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(download, cwd=HOME, check=True)
    package = next(HOME.glob("prometheus_*.deb"))
    subprocess.run(["dpkg", "-x", str(package), str(HOME)], check=True)
    package.unlink()


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    fetch()
    return subprocess.run(
        [str(PROMTOOL), *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=120
    )


class Prometheus(ServerProcess):
    """One that scrapes what it is told to every second, with the rules of a file."""

    name = "prometheus"

    def __init__(self, directory: Path, rules: Path, *targets: str) -> None:
        super().__init__(directory)
        fetch()
        (self.port,) = free_ports(1)
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "tss", "static_configs": [{"targets": list(targets)}]}],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))

    def _command(self) -> list[str]:
        return [
            str(_SERVER),
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
        ]

    def _refusal(self) -> Exception | None:
        try:
            self._get("/-/ready")
        except OSError as error:
            return error
        return None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query. Raises AssertionError with Prometheus' own words."""
        try:
            found = json.loads(self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}"))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        return list(found["data"]["result"])

    def rules(self) -> dict[str, str]:
        """By alert, the health of its rule."""
        groups = json.loads(self._get("/api/v1/rules"))["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())


if __name__ == "__main__":
    fetch()
