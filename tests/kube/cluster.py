"""A Kubernetes cluster without nodes: the real API server, etcd behind it, and the real custom resources.

No kubelet and no controllers: objects are taken, checked and kept, and nothing comes of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import yaml

from tests.kube import apiserver, tools
from tests.real.brokers import HOST, ROOT, free_ports
from tests.real.process import ServerProcess

_ETCD = ROOT / ".cache" / "etcd"
_TOKEN = "a-token-of-the-tests"


def etcd() -> Path:
    """Debian's, unpacked and never installed; apt checks its signature."""
    found = _ETCD / "usr" / "bin" / "etcd"
    if not found.exists():
        shutil.rmtree(_ETCD, ignore_errors=True)
        _ETCD.mkdir(parents=True)
        subprocess.run(["apt-get", "download", "-qq", "etcd-server"], cwd=_ETCD, check=True, capture_output=True)
        subprocess.run(["dpkg", "-x", str(next(_ETCD.glob("*.deb"))), str(_ETCD)], check=True)
    return found


class Etcd(ServerProcess):
    name = "etcd"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port, self._peers = free_ports(2)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _command(self) -> list[str]:
        peers = f"http://{HOST}:{self._peers}"
        clients = ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        ring = [
            "--listen-peer-urls",
            peers,
            "--initial-advertise-peer-urls",
            peers,
            "--initial-cluster",
            f"default={peers}",
        ]
        return [str(etcd()), "--data-dir", str(self.directory / "data"), *clients, *ring]

    def _refusal(self) -> Exception | None:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return None
        except OSError as error:
            return error


class ApiServer(ServerProcess):
    """With RBAC, one user who may do everything, and a kubeconfig."""

    name = "kube-apiserver"

    def __init__(self, directory: Path, etcd: Etcd) -> None:
        super().__init__(directory)
        (self.port,) = free_ports(1)
        self._etcd = etcd
        self.kubeconfig = directory / "kubeconfig"
        (directory / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
        subprocess.run(
            ["openssl", "genrsa", "-out", str(directory / "sa.key"), "2048"], check=True, capture_output=True
        )
        cluster = {"server": f"https://{HOST}:{self.port}", "insecure-skip-tls-verify": True}
        named = {
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": _TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        self.kubeconfig.write_text(
            yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "test", **named})
        )

    def _command(self) -> list[str]:
        key = str(self.directory / "sa.key")
        return [
            str(apiserver.binary()), f"--etcd-servers={self._etcd.url}", f"--bind-address={HOST}", f"--secure-port={self.port}",
            f"--cert-dir={self.directory / 'certs'}", "--service-account-issuer=https://127.0.0.1",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--authorization-mode=RBAC", f"--token-auth-file={self.directory / 'tokens.csv'}",
            # It would wait for a controller that makes a token for each account.
            "--disable-admission-plugins=ServiceAccount",
        ]  # fmt: skip

    def _refusal(self) -> Exception | None:
        done = self.kubectl("get", "--raw", "/readyz")
        return None if done.returncode == 0 else RuntimeError(done.stderr)

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self._run(tools.kubectl(), arguments, stdin)

    def helm(self, version: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(tools.helm(version), arguments)

    def get(self, *what: str) -> list[dict[str, object]]:
        """The objects, as the server has them."""
        done = self.kubectl("get", *what, "-o", "json")
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["items"])

    def _run(self, tool: Path, arguments: tuple[str, ...], stdin: str = "") -> subprocess.CompletedProcess[str]:
        home = {"HOME": str(self.directory), "KUBECONFIG": str(self.kubeconfig), "PATH": os.environ["PATH"]}
        command = [str(tool), *arguments]
        return subprocess.run(
            command, env=home, input=stdin, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
        )
