"""The Grafana dashboard, from one table: the rows, their panels, what each asks Prometheus for."""

import json
from collections.abc import Iterator

from attrs import frozen

_WINDOW = "$__rate_interval"
_KEPT = '{verdict="keep"}'


@frozen
class Panel:
    title: str
    about: str
    unit: str  # as Grafana calls it
    queries: dict[str, str]  # by legend


def _rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[{_WINDOW}]))"


def _share(counter: str) -> str:
    return f"{_rate(f'{counter}{_KEPT}')} / {_rate(counter)}"


def _quantile(share: float, histogram: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket[{_WINDOW}])))"


# The first five panels are the deployment guide's.
ROWS: dict[str, list[Panel]] = {
    "At a glance": [
        Panel("Throughput", "Traces and spans that arrive, and those that are sent.", "ops", {
            "traces in": _rate("traces_ingested_total"), "spans in": _rate("spans_ingested_total"),
            "traces kept": _rate("traces_sampled_total"),
            "spans to {{destination}}": _rate("spans_exported_total", "destination"),
        }),
        Panel("Latency", "Time of one attempt to send a batch.", "s", {
            "p50 {{destination}}": _quantile(0.5, "export_latency_seconds", "destination"),
            "p95 {{destination}}": _quantile(0.95, "export_latency_seconds", "destination"),
            "p99 {{destination}}": _quantile(0.99, "export_latency_seconds", "destination"),
        }),
        Panel("Buffer", "How full each limit is. At three quarters of the bytes the oldest traces are decided early.", "percentunit", {
            "traces {{instance}}": "buffer_traces_current / buffer_traces_limit",
            "spans {{instance}}": "buffer_spans_current / buffer_spans_limit",
            "bytes {{instance}}": "buffer_bytes_current / buffer_bytes_limit",
        }),
        Panel("Kafka", "Lag counts records that are not read yet. Uncommitted records belong to traces that wait for their decision or delivery.", "short", {
            "lag": "sum(kafka_consumer_lag)", "most of one partition": "max(kafka_consumer_lag)",
            "uncommitted": "sum(kafka_uncommitted_records)",
        }),
        Panel("Errors", "Failed attempts to send, and dead letters.", "ops", {
            "{{destination}} {{reason}}": _rate("export_errors_total", "destination, reason"),
            "dead letters {{reason}}": _rate("dead_letters_total", "reason"),
            "rejected by {{destination}}": _rate("export_rejected_spans_total", "destination"),
        }),
        Panel("Destinations down", "Seconds since a destination stopped taking batches, and the traces that wait for it.", "short", {
            "seconds {{destination}} {{instance}}": "exporter_down_seconds",
            "traces held for {{destination}}": "sum by (destination) (exporter_held_traces)",
        }),
    ],
    "Decisions": [
        Panel("Kept share", "Share of traces, and of spans.", "percentunit", {
            "traces": _share("decisions_total"),
            "spans": _share("decided_spans_total"),
        }),
        Panel("Kept, by policy", "The policy that had the last word.", "ops", {
            "{{policy}}": _rate(f"decisions_total{_KEPT}", "policy"),
        }),
        Panel("When", "The reason why a trace was decided at that time. Pressure means that memory was short.", "ops", {
            "{{reason}}": _rate("decisions_total", "reason"),
        }),
        Panel("Delay", "From a trace's first record to its decision.", "s", {
            "p50": _quantile(0.5, "decision_delay_seconds"), "p99": _quantile(0.99, "decision_delay_seconds"),
        }),
        Panel("Late and repeated", "Spans that followed an earlier decision, and spans that were read or sent twice.", "ops", {
            "late, {{verdict}}": _rate("late_spans_total", "verdict"),
            "read again": _rate("duplicate_spans_total"), "twice in a trace": _rate("export_duplicate_spans_total"),
        }),
        Panel("Force rules", "Traces that a rule decided.", "ops", {
            "{{rule}} {{verdict}}": _rate("force_decisions_total", "rule, verdict"),
        }),
    ],
    "Replicas": [
        Panel("Memory", "Resident memory, and bytes held in traces.", "bytes", {
            "resident {{instance}}": "process_resident_memory_bytes and on (instance) tss_build_info",
            "held {{instance}}": "buffer_bytes_current",
        }),
        Panel("CPU", "Cores.", "short", {
            "{{instance}}": f"rate(process_cpu_seconds_total[{_WINDOW}]) and on (instance) tss_build_info",
        }),
        Panel("Event loop", "Delay of a task that asked to be woken.", "s", {
            "p99 {{instance}}": _quantile(0.99, "event_loop_stall_seconds", "instance"),
        }),
        Panel("Ready", "0 while Kafka or a destination is away, or the group is being joined.", "short", {"{{instance}}": "tss_ready"}),
        Panel("Waiting", "1 while reading is paused; batches between the tasks.", "short", {
            "paused {{instance}}": "backpressure_paused", "{{channel}}": "max by (channel) (channel_fill / channel_limit)",
        }),
        Panel("Rebalances and commits", "Partitions that moved, commits that failed.", "ops", {
            "{{event}}": _rate("kafka_rebalances_total", "event"),
            "commits {{result}}": _rate("kafka_commits_total", "result"),
        }),
        Panel("Age against retention", "How old the oldest uncommitted record is, as a share of the topic's retention.ms.", "percentunit", {
            "{{topic}}": "max by (topic) (kafka_oldest_uncommitted_age_seconds) / on (topic) min by (topic) (kafka_retention_seconds)",
            "lost {{topic}}": _rate("kafka_records_lost_total", "topic"),
        }),
        Panel("Kafka's own errors", "Errors after which the client went on.", "ops", {
            "{{error}}": _rate("kafka_errors_total", "error"),
        }),
    ],
    "Redis": [
        Panel("Up", "0 while a replica works without Redis.", "short", {"{{instance}}": "redis_up"}),
        Panel("Calls", "Time of one call.", "s", {"p99 {{operation}}": _quantile(0.99, "redis_call_seconds", "operation")}),
        Panel("Parked traces", "Traces that are in Redis and not settled yet.", "short", {
            "{{instance}}": "parked_traces", "waiting for Redis": "sum(unparking_waiting_traces)",
        }),
        Panel("Decisions of others", "Traces that Redis was asked about, by its answer.", "ops", {
            "{{outcome}}": _rate("decision_lookups_total", "outcome"),
        }),
    ],
}  # fmt: skip

_WIDTH, _HEIGHT = 8, 8  # of Grafana's 24 columns


def dashboard() -> str:
    return json.dumps(
        {
            "title": "Tail Sampling Selector",
            "uid": "tail-sampling-selector",
            "schemaVersion": 39,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "tags": ["tracing", "sampling"],
            "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
            "panels": list(_panels()),
        },
        indent=1,
    )


def _panels() -> Iterator[dict[str, object]]:
    top = 0
    for title, panels in ROWS.items():
        yield {
            "type": "row",
            "id": top + 1,
            "title": title,
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
            "panels": [],
        }
        for place, panel in enumerate(panels):
            line, column = divmod(place, 24 // _WIDTH)
            where = {"x": column * _WIDTH, "y": top + 1 + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            yield _panel(panel, top + 2 + place, where)
        top += 1 + _HEIGHT * -(-len(panels) // (24 // _WIDTH))


def _panel(panel: Panel, number: int, where: dict[str, int]) -> dict[str, object]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "gridPos": where,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": source, "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }
