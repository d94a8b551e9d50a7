"""The chart against a real API server with the real custom resources: installed, upgraded, rolled back, uninstalled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.kube import tools
from tests.kube.cluster import ApiServer, Etcd
from tests.kube.rendering import CHART, NAMESPACE, RELEASE, VALUES, rendered

pytestmark = pytest.mark.debian  # etcd
GUIDE = tools.ROOT / "docs" / "deployment.md"
# What a release can leave behind.
KINDS = (
    "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,horizontalpodautoscalers,"
    "networkpolicies,scaledobjects,triggerauthentications,servicemonitors,prometheusrules,externalsecrets"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    tools.fetch()
    with Etcd(tmp_path_factory.mktemp("etcd")) as etcd, ApiServer(tmp_path_factory.mktemp("api"), etcd) as server:
        done = server.kubectl("create", "-f", str(tools.custom()))
        assert done.returncode == 0, done.stderr
        for name in (NAMESPACE, "monitoring", "keda"):
            assert server.kubectl("create", "namespace", name).returncode == 0
        done = server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        assert done.returncode == 0, done.stderr
        yield server


@pytest.fixture(autouse=True)
def gone(cluster: ApiServer) -> Iterator[None]:
    """One test that fails leaves no release to the next."""
    yield
    cluster.helm(3, "uninstall", RELEASE, "-n", NAMESPACE, "--ignore-not-found")


def ours(cluster: ApiServer) -> set[tuple[str, str]]:
    """Objects of the release, Helm's own records left out."""
    label = f"app.kubernetes.io/instance={RELEASE}"
    return {
        (str(each["kind"]), str(each["metadata"]["name"]))  # type: ignore[index]
        for each in cluster.get(KINDS, "--all-namespaces", "-l", label)
    }


def expected(values: Path) -> set[tuple[str, str]]:
    label = "app.kubernetes.io/instance"
    objects = [each for each in rendered(values) if each["metadata"].get("labels", {}).get(label) == RELEASE]
    return {(each["kind"], each["metadata"]["name"]) for each in objects if each["kind"] != "Pod"}


@pytest.mark.parametrize("version", tools.HELMS)
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_a_release_comes_changes_goes_back_and_goes(cluster: ApiServer, values: Path, version: int) -> None:
    def helm(*arguments: str) -> str:
        done = cluster.helm(version, *arguments, "-n", NAMESPACE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert ours(cluster) == set()
    notes = helm("install", RELEASE, str(CHART), "-f", str(values))
    assert "kafka" in notes and not re.search(r"<no value>|<nil>|map\[|\[kafka|%!", notes)
    assert ours(cluster) == expected(values)
    installed = settings_of(cluster)
    helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set", "config.app.rootQuietSecs=11")
    assert settings_of(cluster) == installed | {"app": installed.get("app", {}) | {"rootQuietSecs": 11}}
    assert "superseded" in helm("history", RELEASE) and RELEASE in helm("list")
    helm("rollback", RELEASE, "1")
    assert settings_of(cluster) == installed and ours(cluster) == expected(values)
    helm("uninstall", RELEASE)
    assert ours(cluster) == set()


@pytest.mark.parametrize("scaler", ["keda", "autoscaling"])
@pytest.mark.parametrize("version", tools.HELMS)
def test_a_scaler_comes_and_no_upgrade_touches_the_replicas(cluster: ApiServer, version: int, scaler: str) -> None:
    def helm(*arguments: str) -> None:
        done = cluster.helm(version, *arguments, "-n", NAMESPACE)
        assert done.returncode == 0, done.stderr

    def scale(replicas: int) -> None:
        assert (
            cluster.kubectl("scale", "deployment", RELEASE, f"--replicas={replicas}", "-n", NAMESPACE).returncode == 0
        )

    def replicas() -> int:
        return int(cluster.get("deployments", "-n", NAMESPACE)[0]["spec"]["replicas"])  # type: ignore[index]

    minimal = ("-f", str(CHART / "ci" / "minimal-values.yaml"))
    on = (*minimal, "--set", f"{scaler}.enabled=true")
    helm("install", RELEASE, str(CHART), *minimal, "--set", "replicaCount=3")
    helm("upgrade", RELEASE, str(CHART), *on)
    assert replicas() == 3  # what Helm takes away would be 1
    scale(5)
    helm("upgrade", RELEASE, str(CHART), *on, "--set", "config.app.rootQuietSecs=11")
    assert replicas() == 5
    helm("uninstall", RELEASE)

    helm("install", RELEASE, str(CHART), *on)
    scale(5)
    helm("upgrade", RELEASE, str(CHART), *on, "--set", "config.app.rootQuietSecs=11")
    assert replicas() == 5
    helm("rollback", RELEASE, "1")
    assert replicas() == 5
    helm("upgrade", RELEASE, str(CHART), *minimal, "--set", "replicaCount=4")
    assert replicas() == 4


def settings_of(cluster: ApiServer) -> dict:
    maps = cluster.get("configmaps", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={RELEASE}")
    found = next(each["data"] for each in maps if "tss.yaml" in each["data"])  # type: ignore[operator]
    return dict(yaml.safe_load(found["tss.yaml"]))  # type: ignore[index]


def manifests() -> list[dict]:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return [each for block in blocks for each in yaml.safe_load_all(block) if isinstance(each, dict) and "kind" in each]


@pytest.mark.parametrize("manifest", manifests(), ids=lambda each: each["kind"])
def test_the_guides_own_manifests_are_taken(cluster: ApiServer, manifest: dict) -> None:
    manifest["metadata"].setdefault("namespace", NAMESPACE)
    done = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump(manifest))
    if manifest["apiVersion"] == "external-secrets.io/v1beta1":  # as the page says
        assert "no matches for kind" in done.stderr
        manifest["apiVersion"] = "external-secrets.io/v1"
        done = cluster.kubectl(
            "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump(manifest)
        )
    assert done.returncode == 0, done.stderr


def test_the_guides_commands_do_what_it_says(cluster: ApiServer, tmp_path: Path) -> None:
    def run(command: str) -> str:
        tool, *arguments = command.split()
        done = cluster.helm(3, *arguments) if tool == "helm" else cluster.kubectl(*arguments)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    for name in ("kafka-ca.crt", "client.crt", "client.key"):
        (tmp_path / name).write_text("a certificate")
    run(f"kubectl create secret generic datadog-secret --from-literal=api-key=KEY -n {NAMESPACE}")
    run(
        f"kubectl create secret generic kafka-credentials --from-literal=username=u --from-literal=password=p -n {NAMESPACE}"
    )
    files = " ".join(
        f"--from-file={key}={tmp_path / name}"
        for key, name in (("ca.crt", "kafka-ca.crt"), ("client.crt", "client.crt"), ("client.key", "client.key"))
    )
    run(f"kubectl create secret generic kafka-certs {files} -n {NAMESPACE}")
    assert "api-key" in run(f"kubectl get secret datadog-secret -n {NAMESPACE} -o yaml")

    production = CHART / "ci" / "production-values.yaml"
    where = f"helm upgrade --install {RELEASE} ./helm-charts/tail-sampling-selector --namespace {NAMESPACE}"
    run(f"{where} --create-namespace --values {production}")
    assert RELEASE in run(f"kubectl get scaledobject -n {NAMESPACE}")
    assert "lagThreshold" in run(f"kubectl describe scaledobject {RELEASE} -n {NAMESPACE}").replace(
        "Lag Threshold", "lagThreshold"
    )
    assert "keda-tail-sampling-scaler" in run(f"kubectl get scaledobject {RELEASE} -n {NAMESPACE} -o yaml")
    run(f"kubectl get pods -n {NAMESPACE} -l app=tail-sampling-selector")
    run(f"kubectl get events -n {NAMESPACE} --sort-by=.lastTimestamp")
    run(f"kubectl scale deployment {RELEASE} -n {NAMESPACE} --replicas=1")
    run(f"kubectl set env deployment {RELEASE} TSS_OBSERVABILITY_LOG_LEVEL=debug -n {NAMESPACE}")
    assert "TSS_OBSERVABILITY_LOG_LEVEL" in run(f"kubectl get deployment {RELEASE} -n {NAMESPACE} -o yaml")
    run(
        f"helm upgrade {RELEASE} ./helm-charts/tail-sampling-selector --namespace {NAMESPACE} --values {production}"
        " --reuse-values --set config.sampling.alwaysSampleErrors=true"
    )
    run(
        f"helm upgrade {RELEASE} ./helm-charts/tail-sampling-selector --namespace {NAMESPACE} --set image.tag=v1.2.1 --reuse-values"
    )
    assert "v1.2.1" in run(f"kubectl get deployment {RELEASE} -n {NAMESPACE} -o yaml")
    assert RELEASE in run(f"helm list -n {NAMESPACE}")
    run(f"helm history {RELEASE} -n {NAMESPACE}")
    run(f"helm rollback {RELEASE} 1 -n {NAMESPACE}")
    assert "v1.2.0" in run(f"kubectl get deployment {RELEASE} -n {NAMESPACE} -o yaml")
    run(f"helm uninstall {RELEASE} -n {NAMESPACE}")
