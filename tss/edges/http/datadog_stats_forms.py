"""APM statistics as Datadog's endpoints take them: msgpack, with the names of the fields in Go.

Source: datadog-agent, `pkg/proto/pbgo/trace/stats.pb.go` (StatsPayload for the intake, ClientStatsPayload for an agent).
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import msgpack

from tss.core.formats.apm_stats.groups import BUCKET_NS, GroupedStats, Payload, StatsBody

# The intake takes 3 MB compressed; the agent's own limit is this number of groups.
MAX_GROUPS = 4000
# A group with long texts and wide sketches may have 20 kB. Gzip makes many of them at least five times smaller.
MAX_BYTES = 8 * 1024 * 1024

_TRUE, _FALSE = 1, 2  # the enum Trilean


@attrs.frozen
class Sender:
    """The daemon, in the role of an agent or of a tracer."""

    hostname: str
    version: str


def for_intake(found: Sequence[GroupedStats], sender: Sender) -> Iterator[StatsBody]:
    """StatsPayloads, compressed with gzip, for `/api/v0.2/stats`.

    `ClientComputed` is false, as in the statistics that an agent computes itself. True is for statistics that a tracer
    computed and an agent passed on; here the daemon has the role of the agent.
    """
    parts = _parts(found)
    for part in parts:
        body = {
            "AgentHostname": sender.hostname,
            "AgentEnv": "none",
            "Stats": [_client_stats(payload, groups) for payload, groups in _by_payload(part)],
            "AgentVersion": sender.version,
            "ClientComputed": False,
            "SplitPayload": len(parts) > 1,
        }
        yield StatsBody(len(part), gzip.compress(msgpack.packb(body), 1, mtime=0))


def for_agent(found: Sequence[GroupedStats], sender: Sender) -> Iterator[StatsBody]:
    """ClientStatsPayloads for `/v0.6/stats`: each has one environment, host and version."""
    for part in _parts(found):
        for payload, groups in _by_payload(part):
            body = {**_client_stats(payload, groups), "Lang": "python", "TracerVersion": sender.version}
            yield StatsBody(len(groups), msgpack.packb(body))


def _parts(found: Sequence[GroupedStats]) -> list[list[GroupedStats]]:
    """The groups in lists that fit into a payload, sorted by environment, host and version."""
    parts: list[list[GroupedStats]] = []
    size = 0
    for group in sorted(found, key=lambda group: (group.name.payload, group.start_ns)):
        size += _size(group)
        if not parts or len(parts[-1]) >= MAX_GROUPS or size > MAX_BYTES:
            parts.append([])
            size = _size(group)
        parts[-1].append(group)
    return parts


def _size(group: GroupedStats) -> int:
    return len(group.ok) + len(group.error) + len(group.name.resource) + 1000


def _by_payload(part: Sequence[GroupedStats]) -> list[tuple[Payload, list[GroupedStats]]]:
    found: dict[Payload, list[GroupedStats]] = {}
    for group in part:
        found.setdefault(group.name.payload, []).append(group)
    return [*found.items()]


def _client_stats(payload: Payload, groups: Sequence[GroupedStats]) -> dict[str, Any]:
    buckets: dict[int, list[dict[str, Any]]] = {}
    for group in groups:
        buckets.setdefault(group.start_ns, []).append(_group(group))
    return {
        "Hostname": payload.hostname,
        "Env": payload.env,
        "Version": payload.version,
        "Stats": [
            {"Start": start, "Duration": BUCKET_NS, "Stats": each, "AgentTimeShift": 0}
            for start, each in buckets.items()
        ],
    }


def _group(group: GroupedStats) -> dict[str, Any]:
    name = group.name
    return {
        "Service": name.service,
        "Name": name.name,
        "Resource": name.resource,
        "HTTPStatusCode": name.http_status,
        "Type": name.type,
        "Hits": group.hits,
        "Errors": group.errors,
        "Duration": group.duration_ns,
        "OkSummary": group.ok,
        "ErrorSummary": group.error,
        "Synthetics": name.synthetics,
        "TopLevelHits": group.top_level_hits,
        "SpanKind": name.kind,
        "PeerTags": name.peer_tags,
        "IsTraceRoot": _TRUE if group.root else _FALSE,
        "GRPCStatusCode": name.grpc_status,
    }
