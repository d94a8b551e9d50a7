"""Where spans come from, as far as a Datadog payload says it once for all spans in it.

Source: the Datadog agent's OTLP intake (`pkg/trace/api/otlp.go`), which makes one payload of each resource. A span's tags
have its resource's attributes, so that they tell it all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from tss.core.datadog.trace import DatadogSpan
from tss.core.datadog.values import MAX_TAG, cut

# The first that is there counts.
_CONTAINER = ("datadog.container_id", "container.id", "k8s.pod.uid")
_HOST = ("datadog.host.name", "_dd.hostname")
_NO_HOSTS = frozenset((
    "0.0.0.0", "127.0.0.1", "localhost", "localhost.localdomain", "localhost6.localdomain6", "ip6-localhost",
))  # fmt: skip


@frozen
class Origin:
    """The fields of a TracerPayload of the same names."""

    env: str = ""
    app_version: str = ""
    hostname: str = ""
    container_id: str = ""
    language_name: str = ""
    language_version: str = ""
    tracer_version: str = ""

    @property
    def max_bytes(self) -> int:
        """In a payload, at most: every field has a name of up to 16 bytes in msgpack, and a length."""
        return 4 * sum(map(len, self.fields().values())) + 32 * len(_NAMES)

    def fields(self) -> Mapping[str, str]:
        """By name, those that are there."""
        return {name: value for name in _NAMES if (value := getattr(self, name))}


_NAMES: Sequence[str] = tuple(Origin.__annotations__)


def origin_of(span: DatadogSpan) -> Origin:
    """That of one span."""
    meta: Mapping[str, str] = span["meta"]
    sdk = meta.get("telemetry.sdk.version", "")
    return Origin(
        env=_short(meta.get("env", "")),
        app_version=_short(meta.get("version", "")),
        hostname=_short(_hostname(meta)),
        container_id=_short(_first(meta, _CONTAINER)),
        language_name=_short(meta.get("telemetry.sdk.language", "")),
        language_version=_short(meta.get("process.runtime.version", "")),
        tracer_version=_short(f"otlp-{sdk}" if sdk else ""),
    )


def root_of(spans: Sequence[DatadogSpan]) -> DatadogSpan:
    """The span that speaks for its trace."""
    return next((span for span in spans if not span["parent_id"]), spans[0])


def _short(value: str) -> str:
    return cut(value, MAX_TAG)


def _first(meta: Mapping[str, str], keys: Sequence[str]) -> str:
    return next((meta[key] for key in keys if meta.get(key)), "")


def _hostname(meta: Mapping[str, str]) -> str:
    """The host's name in Datadog; empty where there is none to see (serverless), or it is nobody's in particular.

    Never that of the host this daemon runs on: its tags are not these spans'.
    """
    found = _first(meta, _HOST)
    if not found and meta.get("aws.ecs.launchtype") != "fargate":
        found = _cloud_hostname(meta)
    return "" if found in _NO_HOSTS else found


def _cloud_hostname(meta: Mapping[str, str]) -> str:
    name, number = meta.get("host.name", ""), meta.get("host.id", "")
    match meta.get("cloud.provider"):
        case "aws":
            return number or name
        case "azure":
            return number or name
        case "gcp":
            project = meta.get("cloud.account.id", "")
            return f"{name.partition('.')[0]}.{project}" if name and project else name
    node, cluster = meta.get("k8s.node.name", ""), meta.get("k8s.cluster.name", "")
    if node:
        return f"{node}-{cluster}" if cluster else node
    return number or name
