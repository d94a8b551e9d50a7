"""The chart: sound to helm and to Kubernetes, old and new; what each value switches; what is refused, and in which words."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
import yaml

from chart.__main__ import documented, made
from tests.kube import schemas, tools
from tests.kube.rendering import (
    CHART,
    NAMESPACE,
    RELEASE,
    VALUES,
    Objects,
    Refused,
    container,
    kinds,
    only,
    rendered,
    run,
    settings,
    template,
)
from tss.settings import Settings, SettingsError

GOLDEN = Path(__file__).with_name("rendered")
LEAST = ("config.kafka.brokers=kafka:9092", "config.datadog.apiKey=a-key-of-the-test")
KEDA = (*LEAST, "keda.enabled=true")
OUTSIDE = {"TSS_DATADOG_API_KEY": "a-key-of-the-test"}


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    tools.fetch()


def pod(objects: Objects) -> dict:
    return next(each for each in objects if each["kind"] in ("Deployment", "StatefulSet"))["spec"]["template"]["spec"]


# ---- as a whole


@pytest.mark.parametrize("version", tools.HELMS)
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_helm_finds_nothing_to_say_of_it(values: Path, version: int) -> None:
    done = run(version, "lint", "--strict", str(CHART), "-f", str(values))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kubernetes", tools.SCHEMAS)
@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_kubernetes_knows_every_field(values: Path, kubernetes: str) -> None:
    objects = rendered(values, kubernetes=kubernetes)
    assert [fault for each in objects for fault in schemas.faults(each, kubernetes)] == []


@pytest.mark.parametrize("kubernetes", tools.SCHEMAS)
@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject", "ServiceMonitor", "PrometheusRule", "ExternalSecret"])
def test_a_field_that_kubernetes_does_not_know_would_be_seen(kind: str, kubernetes: str) -> None:
    value = only(rendered(CHART / "ci" / "everything-values.yaml", kubernetes=kubernetes), kind)
    value["spec"]["replicaz"] = 1
    assert "replicaz" in " ".join(schemas.faults(value, kubernetes))


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_it_renders_what_it_rendered(values: Path) -> None:
    """`GOLDEN=1 pytest tests/kube` writes them anew; the difference is then for the reviewer."""
    file, text = GOLDEN / f"{values.stem}.yaml", template(values)
    if os.environ.get("GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_both_helms_render_the_same(values: Path) -> None:
    assert sorted(map(str, rendered(values, version=3))) == sorted(map(str, rendered(values, version=4)))


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_the_daemon_takes_the_settings(values: Path) -> None:
    found = settings(rendered(values), **({} if values.stem.startswith("statefulset") else OUTSIDE))
    assert found.kafka.brokers.startswith("kafka")


def test_the_guides_values_stand_unchanged_in_its_chapter() -> None:
    guide = (tools.ROOT / "docs" / "deployment.md").read_text()
    for name in ("minimal-values.yaml", "production-values.yaml"):
        assert (CHART / "ci" / name).read_text() in guide


def test_what_is_made_of_the_values_is_fresh() -> None:
    assert [str(path) for path, text in made().items() if path.read_text() != text] == []


def test_every_value_says_what_it_is() -> None:
    values = documented((CHART / "values.yaml").read_text())
    assert [".".join(each.path) for each in values if each.open and not each.doc] == []


def test_what_the_chart_reads_of_the_settings_has_the_daemons_defaults() -> None:
    given = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
    ours, theirs = Settings(), {(section, key): value for section, keys in given.items() for key, value in keys.items()}
    assert theirs == {
        ("app", "shutdownTimeoutSecs"): ours.app.shutdown_timeout_secs,
        ("kafka", "brokers"): ours.kafka.brokers,
        ("kafka", "inputTopic"): ours.kafka.input_topic,
        ("kafka", "consumerGroup"): ours.kafka.consumer_group,
        ("observability", "healthPort"): ours.observability.health_port,
        ("observability", "metricsPort"): ours.observability.metrics_port,
        ("observability", "enableHealthCheck"): ours.observability.enable_health_check,
        ("observability", "enablePrometheus"): ours.observability.enable_prometheus,
        ("forceSampling", "adminPort"): ours.force_sampling.admin_port,
        ("forceSampling", "adminAddr"): ours.force_sampling.admin_addr,
    }


# ---- what the guide promises


def test_the_guides_first_command_is_enough() -> None:
    objects = rendered(
        "image.repository=ghcr.io/your-org/tail-sampling-selector",
        "image.tag=latest",
        "config.kafka.brokers=kafka:9092",
        "config.redis.url=redis://redis:6379",
        "config.datadog.apiKey=your-api-key",
    )
    found = settings(objects)
    assert (found.kafka.brokers, found.redis.url, found.datadog.api_key) == (
        "kafka:9092", "redis://redis:6379", "your-api-key",
    )  # fmt: skip
    assert container(objects)["image"] == "ghcr.io/your-org/tail-sampling-selector:latest"
    assert only(objects, "Deployment")["metadata"]["name"] == RELEASE


def test_pods_and_services_have_the_label_that_the_guide_looks_for() -> None:
    objects = rendered(*LEAST)
    labels = [only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]]
    labels += [each["metadata"]["labels"] for each in objects if each["kind"] == "Service"]
    assert {each["app"] for each in labels} == {"tail-sampling-selector"}


def test_one_service_alone_has_the_port_that_is_scraped() -> None:
    services = [each for each in rendered(*LEAST) if each["kind"] == "Service"]
    ports = [
        (each["metadata"]["name"], port["name"], port["port"]) for each in services for port in each["spec"]["ports"]
    ]
    assert sorted(ports) == [(RELEASE, "http", 8080), (f"{RELEASE}-metrics", "metrics", 9090)]


# ---- secrets


@pytest.mark.parametrize(
    "secret",
    [
        "config.datadog.apiKey=hidden-word-1",
        "config.kafka.saslPassword=hidden-word-1",
        "config.redis.url=redis://user:hidden-word-1@redis:6379",
        "config.redis.password=hidden-word-1",
        "config.forceSampling.adminToken=hidden-word-1",
        "config.kafka.properties.ssl\\.key\\.pem=hidden-word-1",
        "config.spanMetrics.otlpHeaders.Authorization=hidden-word-1",
        "config.exporters[0].headers.Authorization=hidden-word-1,config.exporters[0].name=a,config.exporters[0].type=otlp,config.exporters[0].endpoint=http://b:1",
    ],
)
def test_a_secret_stands_in_the_secret_only(secret: str) -> None:
    objects = rendered(*LEAST, secret)
    data = only(objects, "Secret")["data"]
    assert "hidden-word-1" not in yaml.safe_dump([each for each in objects if each["kind"] != "Secret"])
    assert any("hidden-word-1" in base64.b64decode(value).decode() for value in data.values())


def test_settings_that_hide_nothing_stay_readable() -> None:
    objects = rendered(
        LEAST[0], "config.redis.url=redis://redis:6379", "config.kafka.properties.fetch\\.min\\.bytes=5",
        "config.exporters[0].name=a", "config.exporters[0].type=otlp", "config.exporters[0].endpoint=http://b:4318",
    )  # fmt: skip
    assert "Secret" not in kinds(objects)
    found = settings(objects)
    assert found.redis.url and found.kafka.properties and found.exporters


def checksums(*values: str) -> set[str]:
    annotations = only(rendered(*LEAST, *values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
    return {f"{name}={value}" for name, value in annotations.items()}


def test_a_changed_setting_or_secret_starts_new_pods() -> None:
    assert checksums() == checksums("replicaCount=4")
    assert len(checksums() & checksums("config.app.rootQuietSecs=10")) == 1
    assert len(checksums() & checksums("config.observability.healthPort=8081")) == 1
    assert len(checksums() & checksums("config.datadog.apiKey=another")) == 1


OTEL = tuple(
    f"config.sampling.otelTailSampling.policies[0].{each}" for each in ("name=all", "type=always_sample")
)  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        ("config.sampling.latencySampleRate=50%",),
        ("config.sampling.policies[0].name=all", "config.sampling.policies[0].keep=50%"),
        ("config.observability.logLevel=debug",),
    ],
    ids=lambda values: values[0],
)
def test_changed_policies_and_the_log_level_start_no_pods_and_reach_them(values: tuple[str, ...]) -> None:
    """The ConfigMap changes, and its folder is mounted: Kubernetes never updates a file that is mounted by `subPath`."""
    assert checksums(*values) == checksums()
    assert only(rendered(*LEAST, *values), "ConfigMap")["data"] != only(rendered(*LEAST), "ConfigMap")["data"]
    (mount,) = [each for each in container(rendered(*LEAST))["volumeMounts"] if each["name"] == "config"]
    assert mount == {"name": "config", "mountPath": "/etc/tss", "readOnly": True}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((), ("config.sampling.weights=false",)),
        ((), OTEL),
        (OTEL, (*OTEL, "config.sampling.otelTailSampling.decision_wait=10s")),
    ],
    ids=["weights", "a Collector's section", "its waits"],
)
def test_what_the_running_daemon_refuses_to_change_starts_new_pods(
    before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    assert len(checksums(*before) & checksums(*after)) == 1


def test_other_policies_in_a_collectors_section_start_no_pods() -> None:
    other = (*OTEL[:1], "config.sampling.otelTailSampling.policies[0].type=drop")
    assert checksums(*OTEL) == checksums(*other)


def test_secrets_of_others_come_as_variables_and_as_files() -> None:
    objects = rendered(*LEAST, "existingSecret=mine", "secrets[0].name=certs", "secrets[0].secretName=kafka-certs")
    assert {"secretRef": {"name": "mine"}} in container(objects)["envFrom"]
    mounts = {each["name"]: each["mountPath"] for each in container(objects)["volumeMounts"]}
    assert mounts["certs"] == "/etc/tss-secrets/certs"
    assert {"name": "certs", "secret": {"secretName": "kafka-certs"}} in pod(objects)["volumes"]


# ---- scaling


@pytest.mark.parametrize("scaler", ["keda.enabled=true", "autoscaling.enabled=true"])
def test_the_number_of_replicas_has_one_owner(scaler: str) -> None:
    assert only(rendered(*LEAST, "replicaCount=4"), "Deployment")["spec"]["replicas"] == 4
    assert "replicas" not in only(rendered(*LEAST, scaler), "Deployment")["spec"]


def test_keda_looks_at_the_group_that_the_daemon_commits_its_positions_under() -> None:
    objects = rendered(*KEDA)
    trigger = only(objects, "ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert trigger["consumerGroup"] == settings(objects).kafka.scaler_group == "keda-tail-sampling-scaler"
    assert (trigger["bootstrapServers"], trigger["topic"]) == ("kafka:9092", "otel-traces-raw")
    assert trigger["offsetResetPolicy"] == "latest" and "scope" not in trigger
    assert settings(rendered(*LEAST)).kafka.scaler_group == ""


def credentials(*parameters: str) -> tuple[str, ...]:
    """`secretTargetRef` of KEDA with these parameters."""
    at = "keda.authentication.secretTargetRef"
    return tuple(
        f"{at}[{index}].{key}={value}"
        for index, name in enumerate(parameters)
        for key, value in {"parameter": name, "name": "kafka", "key": name}.items()
    )


def test_keda_speaks_to_kafka_as_the_daemon_does() -> None:
    def spoken(*values: str) -> tuple[str | None, str | None]:
        spec = only(rendered(*KEDA, *values), "ScaledObject")["spec"]
        return spec["triggers"][0]["metadata"].get("sasl"), spec["triggers"][0]["metadata"].get("tls")

    user = ("config.kafka.saslUsername=u", "config.kafka.saslPassword=p")
    assert spoken() == (None, None)
    given = "keda.authentication.existing=a"
    assert spoken(given, "config.kafka.sslCaLocation=/etc/ssl/a") == (None, "enable")
    assert spoken(given, *user) == ("plaintext", "enable")
    assert spoken(given, *user, "config.kafka.securityProtocol=sasl_plaintext") == ("plaintext", None)
    assert spoken(given, *user, "config.kafka.saslMechanism=SCRAM-SHA-256") == ("scram_sha256", "enable")
    assert spoken(given, *user, "keda.kafka.sasl=none", "keda.kafka.tls=disable") == (None, None)
    # Where user and password come from a Secret that the chart cannot see, its credentials for KEDA tell of them.
    secret = ("existingSecret=kafka", *credentials("username", "password"))
    assert spoken(*secret) == ("plaintext", "enable")
    assert spoken(*secret, "config.kafka.saslMechanism=SCRAM-SHA-512") == ("scram_sha512", "enable")
    named = ("env[0].name=TSS_KAFKA_SASL_MECHANISM", "env[0].value=SCRAM-SHA-512")
    assert spoken(*secret, *named) == ("scram_sha512", "enable")


def test_scaling_down_is_slow_and_a_lost_kafka_is_no_reason_for_it() -> None:
    spec = only(rendered(*KEDA, "keda.minReplicaCount=0"), "ScaledObject")["spec"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == 300 and down["policies"][0]["value"] == 1
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 1}


def test_a_pod_has_longer_than_the_daemon_takes_to_stop() -> None:
    assert pod(rendered(*LEAST))["terminationGracePeriodSeconds"] == 45
    assert pod(rendered(*LEAST, "config.app.shutdownTimeoutSecs=61"))["terminationGracePeriodSeconds"] == 76
    assert pod(rendered(*LEAST, "terminationGracePeriodSeconds=90"))["terminationGracePeriodSeconds"] == 90


# ---- switches


@pytest.mark.parametrize(
    ("switch", "kind"),
    [
        ("networkPolicy.enabled=true", "NetworkPolicy"),
        ("serviceMonitor.enabled=true", "ServiceMonitor"),
        ("prometheusRule.enabled=true", "PrometheusRule"),
        ("replicaCount=2", "PodDisruptionBudget"),
        ("keda.enabled=true", "ScaledObject"),
        ("autoscaling.enabled=true", "HorizontalPodAutoscaler"),
        ("kind=StatefulSet", "StatefulSet"),
    ],
)
def test_a_switch_makes_its_object(switch: str, kind: str) -> None:
    assert kind not in kinds(rendered(*LEAST))
    assert kind in kinds(rendered(*LEAST, switch))


def test_newer_apis_are_asked_for_where_they_are() -> None:
    values = (*LEAST, "autoscaling.enabled=true")
    for kubernetes, policy, autoscaling in (
        ("1.20.0", "policy/v1beta1", "autoscaling/v2beta2"),
        ("1.22.0", "policy/v1", "autoscaling/v2beta2"),
        ("1.23.0", "policy/v1", "autoscaling/v2"),
    ):
        objects = rendered(*values, kubernetes=kubernetes)
        assert only(objects, "PodDisruptionBudget")["apiVersion"] == policy
        assert only(objects, "HorizontalPodAutoscaler")["apiVersion"] == autoscaling
    with pytest.raises(Refused, match=r"kubeVersion: >=1\.20"):
        template(*LEAST, kubernetes="1.19.0")


def test_a_network_policy_lets_out_what_is_needed_and_no_more() -> None:
    def ports(*values: str) -> list[list[int]]:
        rules = only(rendered(*LEAST, "networkPolicy.enabled=true", *values), "NetworkPolicy")["spec"]["egress"]
        return [[port["port"] for port in rule["ports"]] for rule in rules]

    assert ports() == [[9092], [443], [53, 53]]
    assert ports("config.redis.url=redis://redis:6379") == [[9092], [6379], [443], [53, 53]]
    assert ports("networkPolicy.dns=false", "networkPolicy.kafka.ports={9092,9094}") == [[9092, 9094], [443]]


def test_a_network_policy_lets_in_whom_it_names_and_the_charts_own_test() -> None:
    values = (
        "networkPolicy.enabled=true",
        "networkPolicy.ingress.from[0].namespaceSelector.matchLabels.name=monitoring",
    )
    objects = rendered(*LEAST, *values)
    scraper, test = only(objects, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    assert scraper == {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    assert test["podSelector"]["matchLabels"].items() <= only(objects, "Pod")["metadata"]["labels"].items()


def test_the_admin_port_is_reached_by_whom_the_settings_let_in() -> None:
    def seen(*values: str) -> tuple[list[str], list[list[int]], list[str]]:
        objects = rendered(*LEAST, "networkPolicy.enabled=true", "config.forceSampling.adminPort=8081", *values)
        ingress = only(objects, "NetworkPolicy")["spec"]["ingress"]
        pod = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        services = [each["metadata"]["name"] for each in objects if each["kind"] == "Service"]
        return (
            [port["name"] for port in pod["ports"]],
            [[port["port"] for port in rule["ports"]] for rule in ingress],
            [name.rpartition("-")[2] for name in services if name.endswith("-admin")],
        )

    everywhere = "config.forceSampling.adminAddr=0.0.0.0"
    someone = "networkPolicy.admin.from[0].podSelector.matchLabels.app=oncall"
    assert seen() == (["http", "metrics"], [[8080, 9090]], []), "on loopback"
    assert seen(someone) == (["http", "metrics"], [[8080, 9090]], [])
    assert seen(everywhere) == (["http", "metrics", "admin"], [[8080, 9090]], []), "nobody is named"
    assert seen(everywhere, someone, "service.adminPort=80") == (
        ["http", "metrics", "admin"], [[8080, 9090], [8081]], ["admin"],
    )  # fmt: skip


def exporters(*urls: str) -> list[str]:
    keys = [{"name": f"e{index}", "type": "otlp", "endpoint": url} for index, url in enumerate(urls)]
    return [
        f"config.exporters[{index}].{key}={value}" for index, each in enumerate(keys) for key, value in each.items()
    ]


@pytest.mark.parametrize(
    ("values", "part", "ports"),
    [
        (["config.kafka.brokers={a:9093,b:9094}"], 0, [9093, 9094]),
        (["config.kafka.brokers=a:9093\\,[::1]:9094"], 0, [9093, 9094]),
        (["config.redis.url=rediss://u:p@redis:6380/0"], 1, [6380]),
        (["config.redis.url=redis://redis/0"], 1, [6379]),
        (["config.redis.url=redis://a:26379\\,b:26380", "config.redis.sentinelMaster=m"], 1, [26379, 26380, 6379]),
    ],
)
def test_a_network_policy_follows_the_settings(values: list[str], part: int, ports: list[int]) -> None:
    policy = only(rendered(LEAST[1], *exporters("https://a.b"), "config.kafka.brokers=a:9093",
                           "networkPolicy.enabled=true", *values), "NetworkPolicy")  # fmt: skip
    assert [each["port"] for each in policy["spec"]["egress"][part]["ports"]] == ports


@pytest.mark.parametrize(
    ("urls", "outside", "inside"),
    [
        (["https://otel.example.com"], [443], None),
        (["http://otel.example.com:4318", "https://otel.example.com"], [4318, 443], None),
        (["http://collector:4318", "http://tempo.tracing.svc.cluster.local"], None, [4318, 80]),
        (["http://collector.tracing.svc:4318", "https://otel.example.com:8443"], [8443], [4318]),
    ],
)
def test_destinations_are_reached_where_they_are(urls: list[str], outside: list | None, inside: list | None) -> None:
    elsewhere = "config.exporters[0].headers.about=http://no.destination:99"
    values = ("config.kafka.brokers=kafka:9092", *exporters(*urls), elsewhere, "networkPolicy.enabled=true")
    egress = only(rendered(*values, "networkPolicy.dns=false"), "NetworkPolicy")["spec"]["egress"][1:]
    by_place = {next(iter(rule["to"][0])): [port["port"] for port in rule["ports"]] for rule in egress}
    assert by_place == {
        key: ports for key, ports in (("ipBlock", outside), ("namespaceSelector", inside)) if ports is not None
    }


def test_what_is_switched_off_in_the_daemon_is_not_asked_for() -> None:
    objects = rendered(*LEAST, "config.observability.enableHealthCheck=false")
    assert "livenessProbe" not in container(objects) and "readinessProbe" not in container(objects)
    assert [each["metadata"]["name"] for each in objects if each["kind"] == "Service"] == [f"{RELEASE}-metrics"]
    objects = rendered(*LEAST, "config.observability.enablePrometheus=false")
    assert [port["name"] for port in container(objects)["ports"]] == ["http"]


def test_the_pod_is_as_locked_up_as_the_guide_says() -> None:
    objects = rendered(*LEAST)
    assert pod(objects)["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod(objects)["automountServiceAccountToken"] is False
    assert only(objects, "ServiceAccount")["automountServiceAccountToken"] is False


def test_every_alert_says_where_to_read_on_and_can_be_left_out() -> None:
    base = "prometheusRule.runbookBase=https://example.com/tss/"
    rules = only(rendered(*LEAST, "prometheusRule.enabled=true", base), "PrometheusRule")["spec"]["groups"][0]["rules"]
    for rule in rules:
        wanted = f"https://example.com/tss/docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == wanted
    assert {"TSSHighConsumerLag", "TSSBufferFull", "TSSExportFailures"} <= {rule["alert"] for rule in rules}
    rarer = rendered(*LEAST, "prometheusRule.enabled=true", "prometheusRule.consumerLagThreshold=70000")
    assert only(rarer, "PrometheusRule")["spec"]["groups"][0]["rules"][0]["expr"] == "kafka_consumer_lag > 70000"
    later = rendered(*LEAST, "prometheusRule.enabled=true", "prometheusRule.destinationDownSecs=7200")
    groups = only(later, "PrometheusRule")["spec"]["groups"]
    down = [rule["expr"] for group in groups for rule in group["rules"] if rule["alert"] == "TSSDestinationDown"]
    assert down == ["exporter_down_seconds > 7200"]
    fewer = rendered(*LEAST, "prometheusRule.enabled=true", "prometheusRule.disabled={TSSBufferFull}")
    names = [rule["alert"] for rule in only(fewer, "PrometheusRule")["spec"]["groups"][0]["rules"]]
    assert names == [rule["alert"] for rule in rules if rule["alert"] != "TSSBufferFull"]


def test_further_objects_are_templates() -> None:
    objects = rendered(CHART / "ci" / "everything-values.yaml")
    assert only(objects, "ConfigMap", f"{RELEASE}-extra")["data"] == {"a": "b"}
    assert only(objects, "ConfigMap", f"{RELEASE}-as-text")
    assert {each["metadata"].get("namespace", NAMESPACE) for each in objects} == {NAMESPACE, "monitoring"}


# ---- refusals


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("config.datadog.apiKey=a",), "config.kafka.brokers is missing: --set config.kafka.brokers=kafka:9092"),
        (("config.kafka.brokers=kafka:9092",), "no destination: set config.datadog.apiKey"),
        ((*KEDA, "autoscaling.enabled=true"), "both would own the number of replicas"),
        ((*LEAST, "terminationGracePeriodSeconds=30"), "make it more than config.app.shutdownTimeoutSecs, which is 30"),
        ((*KEDA, "keda.kafka.consumerGroup=tail-sampling-selector"), "name another group"),
        ((*KEDA, "config.kafka.scalerGroup=another"), "leave the first out, the chart sets it"),
        ((*KEDA, "config.kafka.enableAutoCommit=false"), "nothing is committed"),
        ((*KEDA, "keda.minReplicaCount=11"), "keda.minReplicaCount is more than keda.maxReplicaCount"),
        ((*KEDA, "keda.kafka.partitions=8"), "a replica without a partition has nothing to do"),
        (
            (*KEDA, "config.kafka.saslUsername=u", "config.kafka.saslPassword=p"),
            "KEDA needs credentials of its own for SASL plaintext",
        ),
        ((*LEAST, "autoscaling.enabled=true", "autoscaling.minReplicas=11"), "more than autoscaling.maxReplicas"),
        ((*LEAST, "config.kafka.staticMembership=true"), "kind: StatefulSet"),
        ((*LEAST, "persistence.enabled=true"), "kind: StatefulSet"),
        ((*LEAST, "replicaCount=2", "config.app.instanceId=a"), "the same in all replicas"),
        ((*LEAST, "externalSecret.enabled=true"), "needs externalSecret.secretStoreRef"),
        (
            (*LEAST, "serviceMonitor.enabled=true", "config.observability.enablePrometheus=false"),
            "there is nothing to scrape",
        ),
        (
            (*KEDA, *credentials("username"), "config.kafka.saslMechanism=SCRAM-SHA-256"),
            "KEDA needs credentials of its own for SASL scram_sha256",
        ),
        (
            (*KEDA, "config.kafka.sslCaLocation=/etc/ssl/ca.crt"),
            "KEDA needs the CA of config.kafka.sslCaLocation",
        ),
        (
            (*KEDA, "config.kafka.sslCertificateLocation=/etc/ssl/c", "config.kafka.sslKeyLocation=/etc/ssl/k"),
            "KEDA needs a certificate of its own",
        ),
        ((*KEDA, "keda.authentication.existing=a"), "set keda.kafka.sasl and keda.kafka.tls"),
        ((LEAST[1], "config.kafka.brokers=kafka"), "config.kafka.brokers: kafka has no port: kafka:9092"),
        ((*LEAST, "config.observability.healthPort=9090"), "each needs one of its own"),
        ((*LEAST, "config.forceSampling.adminPort=8080"), "adminPort is that of /health or /metrics"),
        ((*LEAST, "config.forceSampling.adminPort=8081", "service.adminPort=8081"), "not of loopback"),
        (
            (*LEAST, "autoscaling.enabled=true", "resources.requests=null"),
            "autoscaling.enabled needs resources.requests.cpu",
        ),
        (
            (*LEAST, "config.kafka.sslCaLocation=/etc/tss-secrets/kafka/ca.crt"),
            "config.kafka.sslCaLocation is /etc/tss-secrets/kafka/ca.crt, and nothing is mounted there",
        ),
        (
            (*LEAST, "config.exporters[0].name=a", "config.exporters[0].type=file", "config.exporters[0].path=/data/x"),
            "the exporter of type file writes to /data/x, which is read-only",
        ),
        (
            (*LEAST, "networkPolicy.enabled=true", "networkPolicy.kafka.ports={9093}"),
            "networkPolicy.kafka.ports leaves out 9092, which config names",
        ),
        (
            (
                "config.kafka.brokers=kafka:9092",
                "externalSecret.enabled=true",
                "externalSecret.secretStoreRef.name=a",
                "externalSecret.data[0].secretKey=DATADOG_API_KEY",
            ),
            "no destination",
        ),
        ((*LEAST, "secrets[0].name=config", "secrets[0].secretName=a"), "the name config is the chart's own"),
    ],
)
@pytest.mark.parametrize("version", tools.HELMS)
def test_what_does_not_go_together_is_refused_with_what_to_do(
    values: tuple[str, ...], words: str, version: int
) -> None:
    with pytest.raises(Refused) as refused:
        template(*values, version=version)
    assert words in str(refused.value)


@pytest.mark.parametrize("version", tools.HELMS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("config.kafka.broker=kafka:9092", "'?brokers'?"),
        ("config.redis.urll=redis://a", "'?url'?"),
        ("kedda.enabled=true", "'?keda'?"),
        ("keda.kafka.group=a", "'?consumerGroup'?"),
        ("config.app.maxBufferSpans=many", "integer"),
        ("config.sampling.errorSampleRate=2", "1"),
        ("config.app.rootQuietSecs=30 sec", "pattern"),
        ("config.app.shutdownTimeoutSecs=30s", "number"),  # the chart computes with it
        ("config.observability.logLevel=loud", "'?debug'?"),
        ("image.pullPolicy=Sometimes", "'?IfNotPresent'?"),
        ("image.digest=sha256:abc", "pattern"),
        ("service.type=Other", "'?ClusterIP'?"),
        ("resources.limit.memory=2Gi", "limit"),
        ("config.exporters[0].type=oltp", "exporters.0.type.*'?otlp'?"),
        ("config.exporters[0].name=a", "missing property 'type'|type is required"),
        ("terminationGracePeriodSeconds=60s", "pattern"),
        ("keda.kafka.lagThreshold=lots", "pattern"),
        ("podDisruptionBudget.maxUnavailable=0", "1"),
    ],
)
def test_an_unknown_key_or_value_is_refused_with_those_that_there_are(value: str, words: str, version: int) -> None:
    with pytest.raises(Refused, match=words):
        template(*LEAST, value, version=version)


@pytest.mark.parametrize("version", tools.HELMS)
def test_the_daemons_units_pass_the_chart(version: int) -> None:
    values = (
        "config.app.rootQuietSecs=45s",
        "config.app.maxBufferBytes=256MiB",
        "config.sampling.errorSampleRate=10%",
        "config.spanMetrics.bucketsMs={2ms,1s}",
    )
    found = settings(rendered(*LEAST, *values, version=version))
    assert (found.app.root_quiet_secs, found.app.max_buffer_bytes) == (45, 256 * 1024**2)
    assert (found.sampling.error_sample_rate, found.span_metrics.buckets_ms) == (0.1, (2, 1000))


@pytest.mark.parametrize("version", tools.HELMS)
@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("config.app=null", "app"),
        ("config.kafka=null", "kafka"),
        ("config.observability.healthPort=null", "healthPort"),
        ("keda=null", "keda"),
        ("keda.pollingInterval=null", "pollingInterval"),
        ("serviceAccount.create=null", "create"),
    ],
)
def test_a_value_that_is_needed_cannot_be_taken_away(value: str, name: str, version: int) -> None:
    with pytest.raises(Refused, match=rf"{name}.*required|missing propert.*{name}"):
        template(*LEAST, value, version=version)


@pytest.mark.parametrize("version", tools.HELMS)
@pytest.mark.parametrize(
    "value",
    ["config.redis", "config.exporters", "config.datadog.site", "podSecurityContext", "livenessProbe", "resources", "env",
     "envFrom", "secrets", "extraObjects", "affinity", "nameOverride", "image.tag", "terminationGracePeriodSeconds"],
)  # fmt: skip
def test_other_values_can(value: str, version: int) -> None:
    settings(rendered(*LEAST, f"{value}=null", version=version))


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Refused, match=r"3 wrong in the values") as refused:
        template("terminationGracePeriodSeconds=1")
    assert str(refused.value).count("\n  - ") == 3


def test_the_settings_are_checked_by_the_daemon_too() -> None:
    """What only it can know reaches the operator by `python -m tss check`, and in the pod's log."""
    with pytest.raises(SettingsError, match=r"kafka\.saslUsername|kafka\.saslPassword"):
        settings(rendered(*LEAST, "config.kafka.saslUsername=alone"))


def test_an_upgrade_that_forgot_the_values_is_told_so() -> None:
    with pytest.raises(Refused, match="give your --values again"):
        template("image.tag=v1.2.1", upgrade=True)
    with pytest.raises(Refused) as refused:
        template("image.tag=v1.2.1")
    assert "give your --values again" not in str(refused.value)
