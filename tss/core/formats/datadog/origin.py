"""The origin of spans (environment, version, host, container): a Datadog payload has it once for all spans in it.

Source: the Datadog agent's OTLP intake (`pkg/trace/api/otlp.go`, `pkg/opentelemetry-mapping-go/otlp/attributes`), which
makes one payload of each resource. The origin is read from a span's tags, which include its resource's attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from tss.core.formats.datadog.trace import DatadogSpan
from tss.core.formats.datadog.values import MAX_TAG, cut

# Container tags, and the attribute that gives each of them.
_CONTAINER_TAGS: Sequence[tuple[str, str]] = (
    ("cloud_provider", "cloud.provider"),
    ("container_id", "container.id"),
    ("container_name", "container.name"),
    ("ecs_cluster_name", "aws.ecs.cluster.arn"),
    ("ecs_container_name", "aws.ecs.container.arn"),
    ("image_name", "container.image.name"),
    ("image_tag", "container.image.tag"),
    ("kube_cluster_name", "k8s.cluster.name"),
    ("kube_container_name", "k8s.container.name"),
    ("kube_cronjob", "k8s.cronjob.name"),
    ("kube_daemon_set", "k8s.daemonset.name"),
    ("kube_deployment", "k8s.deployment.name"),
    ("kube_job", "k8s.job.name"),
    ("kube_namespace", "k8s.namespace.name"),
    ("kube_node", "k8s.node.name"),
    ("kube_replica_set", "k8s.replicaset.name"),
    ("kube_stateful_set", "k8s.statefulset.name"),
    ("pod_name", "k8s.pod.name"),
    ("region", "cloud.region"),
    ("runtime", "container.runtime"),
    ("task_arn", "aws.ecs.task.arn"),
    ("task_family", "aws.ecs.task.family"),
    ("task_version", "aws.ecs.task.revision"),
    ("zone", "cloud.availability_zone"),
)
_NO_HOSTS = frozenset((
    "0.0.0.0", "127.0.0.1", "localhost", "localhost.localdomain", "localhost6.localdomain6", "ip6-localhost",
))  # fmt: skip


@frozen
class Origin:
    """The fields of a TracerPayload that describe all its spans. `container_tags` goes to one of its tags."""

    env: str = ""
    app_version: str = ""
    hostname: str = ""
    container_id: str = ""
    language_name: str = ""
    tracer_version: str = ""
    container_tags: str = ""

    @property
    def max_bytes(self) -> int:
        """The size in a payload, at most: each field adds a name of up to 20 bytes and a length to its text."""
        return sum(len(getattr(self, name).encode()) for name in _NAMES) + 32 * len(_NAMES)

    def fields(self) -> Mapping[str, str | Mapping[str, str]]:
        """The fields of the TracerPayload that are not empty."""
        found: dict[str, str | Mapping[str, str]] = {
            name: value for name in _NAMES if name != "container_tags" and (value := getattr(self, name))
        }
        if self.container_tags:
            found["tags"] = {"_dd.tags.container": self.container_tags}
        return found


_NAMES: Sequence[str] = tuple(Origin.__annotations__)


def origin_of(span: DatadogSpan) -> Origin:
    """The origin of one span."""
    meta: Mapping[str, str] = span["meta"]
    sdk = meta.get("telemetry.sdk.version", "")
    return Origin(
        env=_short(meta.get("env", "")),
        app_version=_short(meta.get("version", "")),
        hostname=_short(_hostname(meta)),
        container_id=_short(meta.get("container.id", "")),
        language_name=_short(meta.get("telemetry.sdk.language", "")),
        tracer_version=_short(f"otlp-{sdk}" if sdk else ""),
        container_tags=",".join([f"{tag}:{_short(meta[key])}" for tag, key in _CONTAINER_TAGS if meta.get(key)]),
    )


def root_of(spans: Sequence[DatadogSpan]) -> DatadogSpan:
    """The root span; without a root, the first span."""
    return next((span for span in spans if not span["parent_id"]), spans[0])


def _short(value: str) -> str:
    return cut(value, MAX_TAG)


def _hostname(meta: Mapping[str, str]) -> str:
    """The host's name in Datadog; empty if the span names no host (serverless), or a name like localhost.

    It is never the daemon's own host, because Datadog would add that host's tags to these spans. Unlike the agent, this
    ignores a resource's attribute `host`: in a span's tags `host` may be anything, such as a request's header.
    """
    found = meta.get("datadog.host.name", "")
    if not found and meta.get("aws.ecs.launchtype") != "fargate":
        found = _machine(meta)
    return "" if found in _NO_HOSTS else found


def _machine(meta: Mapping[str, str]) -> str:
    name, number = meta.get("host.name", ""), meta.get("host.id", "")
    match meta.get("cloud.provider"):
        case "aws":
            return number
        case "azure":
            return number or name
        case "gcp":
            project = meta.get("cloud.account.id", "")
            return f"{_without_domain(name)}.{project}" if name and project else ""
    node, cluster = meta.get("k8s.node.name", ""), meta.get("k8s.cluster.name", "")
    if node:
        return f"{node}-{cluster}" if cluster else node
    return number or name


def _without_domain(name: str) -> str:
    """The machine's name: the first word of Google's internal host names, which have three dots or more."""
    return name.partition(".")[0] if name.count(".") >= 3 else name
