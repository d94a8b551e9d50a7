"""All metrics of the daemon in one table. `edges/metrics.py` and docs/metrics.md are made from it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs


class MetricType(enum.Enum):
    """The Prometheus type."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@attrs.frozen(eq=False)
class Measure:
    """One metric. ``name`` is the full exposition name. ``buckets`` are upper bounds in the metric's unit (histograms only).
    ``alert`` is the deployment guide's alert in PromQL, if it has one."""

    name: str
    kind: MetricType
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    alert: str = ""


ReadGauge = Callable[[], float]


class Meter(Protocol):
    """Takes the numbers of the tasks. They call it once a batch, never once a span."""

    def count(self, measure: Measure, amount: float = 1, *labels: str) -> None:
        """Add to a counter."""

    def observe(self, measure: Measure, value: float, *labels: str) -> None:
        """Add one value to a histogram."""

    def observe_all(self, measure: Measure, values: Sequence[float], *labels: str) -> None:
        """Add many values to a histogram; cheaper than one call for each."""

    def set(self, measure: Measure, value: float, *labels: str) -> None:
        """Set a gauge."""

    def forget(self, measure: Measure, *labels: str) -> None:
        """Stop showing the series with these labels, because the partition or component no longer exists."""

    def watch(self, measure: Measure, read: ReadGauge, *labels: str) -> None:
        """Call ``read`` for the value of a gauge, or of a counter, at each scrape. A counter never falls."""


_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG_SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0)
_STALLS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_CALLS = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


def _counter(name: str, text: str, *labels: str, alert: str = "") -> Measure:
    return Measure(name, MetricType.COUNTER, text, labels, alert=alert)


def _gauge(name: str, text: str, *labels: str, alert: str = "") -> Measure:
    return Measure(name, MetricType.GAUGE, text, labels, alert=alert)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Measure:
    return Measure(name, MetricType.HISTOGRAM, text, labels, buckets)


# fmt: off
# Input
RECORDS_READ = _counter("kafka_records_read_total", "Records read from the input topic, including replayed records.")
RECORDS_REPLAYED = _counter("kafka_records_replayed_total", "Records below the committed offset that were read again, so that late spans of their traces follow the earlier decision.")
TRACES_INGESTED = _counter("traces_ingested_total", "Traces seen for the first time in the input topic.")
SPANS_INGESTED = _counter("spans_ingested_total", "Spans read from the input topic, without replayed records.")
UNREADABLE = _counter("records_unreadable_total", "Records, or parts of records, that could not be read as spans, by reason. They went to the dead letters.", "reason")
ABSURD_TIMESTAMPS = _counter("absurd_timestamps_total", "Record timestamps further ahead of the wall clock than maxClockSkewSecs. They count as the time at which they were read.")
TIME_AHEAD = _gauge("stream_time_ahead_seconds", "How far the newest record timestamp is ahead of this replica's clock, on the partition where it is furthest ahead; 0 if no partition is ahead. Until the clock reaches that time, traces on the partition close late.")
# Memory
BUFFER_TRACES = _gauge("buffer_traces_current", "Open traces in the buffer.", alert="buffer_traces_current / buffer_traces_limit > 0.8")
BUFFER_TRACES_LIMIT = _gauge("buffer_traces_limit", "The setting maxBufferTraces.")
BUFFER_SPANS = _gauge("buffer_spans_current", "Spans of open traces in the buffer.")
BUFFER_SPANS_LIMIT = _gauge("buffer_spans_limit", "The setting maxBufferSpans.")
BUFFER_BYTES = _gauge("buffer_bytes_current", "Bytes in memory that count against maxBufferBytes: the sum of held_bytes.")
HELD_BYTES = _gauge("held_bytes", "Bytes in memory, by kind: open traces, closed traces on their way to a destination, ledgers, the decision memory, the log of the last decisions, polled records that are not in the buffer yet, samples for packing, remembered answers of conditions, and the known contents of the output topic for partitions that were just assigned.", "kind")
BUFFER_BYTES_LIMIT = _gauge("buffer_bytes_limit", "The setting maxBufferBytes.")
PACKED_TRACES = _counter("packed_traces_total", "Quiet open traces that were compressed in memory, because open traces took more than two thirds of their share of maxBufferBytes.")
PACKED_SAVED = _counter("packed_saved_bytes_total", "Bytes of memory that packing quiet traces saved.")
DICTIONARY_VERSION = _gauge("packing_dictionary_version", "The version of the dictionary that quiet traces are packed with; 0 until the first dictionary is trained.")
LOG_REACH = _gauge("decision_log_reach_seconds", "How far back the log of the last decisions reaches, which GET /api/traces/ID reads. It has 1/16 of maxBufferBytes.")
MEMORY_KEPT = _gauge("decision_memory_kept_current", "Kept traces for which this replica remembers which records were delivered.")
MEMORY_DROPPED = _gauge("decision_memory_dropped_current", "Other closed traces whose decision is remembered, approximately. Most of them were dropped.")
MEMORY_REACH = _gauge("decision_memory_reach_seconds", "Stream time between now and the oldest remembered decision, on the partition where it is shortest. It is decisionMemorySecs; it is less after a start, and if maxBufferBytes has no room for more.")
MEMORY_EVICTIONS = _counter("decision_memory_evictions_total", "Kept traces whose record of delivered offsets was evicted, because other traces were used more recently. If Redis is configured, it still has that record. The decision itself may be remembered longer.")
DECISION_LOOKUPS = _counter("decision_lookups_total", "Closed traces that Redis was asked about, because another replica may have decided them, by outcome: kept, dropped, unknown, unreadable (written by another version), or away (Redis did not answer, and this replica decided with its own memory).", "outcome")
DECISION_WRITES = _counter("decision_writes_total", "Decisions written to Redis, by outcome: written, or away (Redis did not answer; the traces were settled without it).", "outcome")
CHANNEL_FILL = _gauge("channel_fill", "Batches waiting in a channel between two tasks.", "channel")
CHANNEL_LIMIT = _gauge("channel_limit", "Batches that a channel between two tasks can hold.", "channel")
PARKED_TRACES = _gauge("parked_traces", "Unsettled traces whose spans are in Redis, so that Kafka's retention may delete their records.")
PARKED_BYTES = _counter("parked_bytes_total", "Bytes of frames and summaries that were written to Redis.")
PARKINGS = _counter("parkings_total", "How often spans of an open trace were moved to Redis.")
PARKING_REFUSED = _counter("parking_refused_total", "Traces that were due for parking but stay in memory for now, by reason: away (Redis does not answer), full (Redis has no room), lost (Redis lost parked spans), memory (too many parked traces wait for their removal from Redis).", "reason")
PARKED_GIVEN_UP = _counter("parked_traces_given_up_total", "Parked traces whose topic was deleted and created again. Their spans in Redis are lost; the decision uses only the spans in memory.")
UNPARKINGS = _counter("unparkings_total", "Closed traces whose spans were read back from Redis.")
UNPARKING_WAITING = _gauge("unparking_waiting_traces", "Closed traces that wait for their spans from Redis. Other traces do not wait for them.")
UNLOOKED = _counter("parked_traces_unlooked_total", "Parked traces taken over that were parked under other settings of policies or exporters[].match, or by an older version. Their spans are scanned again before they are decided.")
REREAD = _counter("partitions_reread_total", "Partitions that are read again from the oldest record of a parked trace, by reason: away, not_fitting (Redis has another state than the committed offset), off (parking is off), lost, two_partitions.", "reason")
# Decisions
DECISIONS = _counter("decisions_total", "Decided traces, by the policy that decided, the verdict, and the reason why the trace was decided at that time: root_quiet, inactive, max_duration (the waits of `app`), decision_wait, root_wait (those of a Collector's section), span_limit, too_large, pressure (limits), other (a reason of a newer version).", "policy", "verdict", "reason")
DECIDED_SPANS = _counter("decided_spans_total", "Spans of decided traces, by verdict.", "verdict")
DECISION_DELAY = _histogram("decision_delay_seconds", "Stream time from the first record of a trace to its decision.", _LONG_SECONDS)
TWO_PARTITIONS = _counter("traces_on_two_partitions_total", "Traces with spans on more than one partition: producers use different partitioners, or the topic is not keyed by trace id.")
LATE_SPANS = _counter("late_spans_total", "Late spans: they arrived after the decision about their trace and followed it, by verdict. Late spans of a dropped trace are counted again if they are read again.", "verdict")
DUPLICATE_SPANS = _counter("duplicate_spans_total", "Spans of a kept trace that were read again although every destination already had them. They were settled and not sent again.")
FORCED = _counter("force_decisions_total", "Traces decided by a force rule, by the rule's name. In `decisions_total` their policy is `force`. The name of a deleted rule stays until 200 other names have appeared.", "rule", "verdict")
SHADOW_DECISIONS = _counter("shadow_decisions_total", "Decided traces that a policy with `mode: shadow` matches, by the policy, by the verdict that they got, and by the verdict that they would have got if this policy acted too. Traces that a force rule decided do not count.", "policy", "verdict", "would")
POLICY_EVALUATED = _counter("policy_evaluated_total", "Traces on which the policy was asked to vote. Every policy is asked, also after one that settles the decision.", "policy")
POLICY_MATCHED = _counter("policy_matched_total", "Traces on which the policy voted: it did not abstain.", "policy")
POLICY_KEPT = _counter("policy_kept_total", "Traces that the policy decided to keep. `force` stands for all force rules.", "policy")
POLICY_DROPPED = _counter("policy_dropped_total", "Traces that the policy decided to drop. `none`: every policy abstained.", "policy")
POLICY_SPANS = _counter("policy_spans_total", "Spans of the traces that the policy decided, late spans included, by verdict. `late` stands for the policy of late spans of dropped traces, because of such a trace only the verdict is remembered. The sum over all policies is every span that was read, without those read again and those not decided yet.", "policy", "verdict")
POLICY_BYTES = _counter("policy_bytes_total", "Bytes of these spans, as they arrived (OTLP protobuf).", "policy", "verdict")
POLICY_SECONDS = _counter("policy_seconds_total", "CPU time that the policy's votes took, estimated: some of them are measured once a second. What the policy asks of each span is answered in the scan and is not in it.", "policy")
SERVICE_TRACES = _counter("service_traces_total", "Decided traces, by the service of their root span; without a root, of the first resource. `unknown_service`: it has no `service.name`. `tss.other`: services beyond observability.maxServices.", "service")
SERVICE_KEPT = _counter("service_traces_kept_total", "Those of these traces that were kept.", "service")
SERVICE_BYTES_IN = _counter("service_bytes_in_total", "Bytes of the spans of these traces as they arrived (OTLP protobuf), late spans included.", "service")
SERVICE_BYTES_OUT = _counter("service_bytes_out_total", "Bytes of the spans of kept traces as they are sent, after duplicate spans were removed and similar ones merged. Each trace counts once, whatever the number of destinations, in OTLP protobuf before compression.", "service")
DECISION_ROWS = _counter("decision_rows_total", "Rows of decisions of an exporter of type decisions, by outcome: written, or lost (it could not write, and the memory for rows was full, or the daemon stopped).", "exporter", "outcome")
FORCE_RULES = _gauge("force_rules_current", "Force rules that are known and not expired, whether enabled or not.")
FORCE_READS = _counter("force_rules_reads_total", "Attempts to read the force rules from Redis, by result. With `away` (Redis did not answer) the known rules stay in force until they expire.", "result")
RELOADS = _counter("reloads_total", "Attempts to bring changed policies into use, by source (start, file, signal, api, rollback, redis: a change that another replica made) and by outcome: accepted, unchanged, refused (an error in them; the old ones stay), away (Redis did not answer).", "source", "outcome")
# Changes to kept traces
DUPLICATES_REMOVED = _counter("export_duplicate_spans_total", "Spans of kept traces that the trace had twice, byte for byte; each was sent once.")
COMPRESSED_SPANS = _counter("compressed_spans_total", "Spans of kept traces that were merged into a composite span.")
COMPRESSED_GROUPS = _counter("compressed_groups_total", "Composite spans that were created.")
COMPRESSION_SPANS_IN = _counter("compression_spans_in_total", "Spans of kept traces before compression, without duplicates.")
COMPRESSION_SPANS_OUT = _counter("compression_spans_out_total", "Spans of kept traces after compression. The ratio is in divided by out; it is 1 while spanCompression is off.")
SPANS_UNWEIGHTED = _counter("spans_unweighted_total", "Spans of kept traces that were sent without the threshold of the decision (`ot=th`), by reason: `invalid` (the trace state is not valid), `contradicted` (the threshold is above the span's randomness), `full` (the trace state has no room), `old_sampler` (it has a rate in the old form `ot=p`).", "reason")
# Output
TRACES_SAMPLED = _counter("traces_sampled_total", "Kept traces that every destination has accepted.")
TRACES_UNPREPARED = _counter("traces_unprepared_total", "Kept traces that could not be searched for duplicate and similar spans. They were sent unchanged.")
TRACES_UNROUTED = _counter("traces_unrouted_total", "Kept traces that match no exporter's `match`. They were sent to no destination.")
SPANS_ASTRAY = _counter("spans_astray_total", "Spans of kept traces that were decided for an exporter that the settings no longer have (renamed or removed). They were not sent there.")
SPANS_EXPORTED = _counter("spans_exported_total", "Spans that a destination has accepted.", "destination")
EXPORT_ERRORS = _counter("export_errors_total", "Failed attempts to send a batch, by destination and reason.", "destination", "reason", alert="increase(export_errors_total[5m]) > 0")
EXPORTER_DOWN = _gauge("exporter_down_seconds", "How long the destination has accepted nothing and received only single probes; 0 while it accepts batches.", "destination")
EXPORTER_HELD = _gauge("exporter_held_traces", "Traces that the destination has refused and that are held for another attempt. An operator may release them to the dead letters.", "destination")
EXPORT_LATENCY = _histogram("export_latency_seconds", "Duration of one attempt to send a batch.", _SECONDS, "destination")
EXPORT_REJECTED = _counter("export_rejected_spans_total", "Spans that a destination rejected while it accepted the rest of their batch.", "destination")
DEAD_LETTERS = _counter("dead_letters_total", "Records and traces that were dead-lettered, by reason and by the place that took them.", "reason", "place")
TRANSACTIONS = _counter("kafka_transactions_total", "Transactions on the output topic of an exporter of type kafka, by result. A failed transaction is repeated.", "result")
READ_BACK = _counter("kafka_output_records_read_back_total", "Records of the output topic that were read when partitions were assigned, to find out which traces it already has.")
# The first stage (kafka.rekey), and signs that it is needed
REKEY_RECORDS = _counter("rekey_records_total", "Records of the input topic that were split by trace.")
REKEY_FRAGMENTS = _counter("rekey_fragments_total", "Records written to the topic between the stages: one for each trace in each input record.")
REKEY_UNREADABLE_HEADERS = _counter("rekey_unreadable_headers_total", "Records that were split by trace without their headers, because the name of a header is not UTF-8. Their spans are complete.")
REKEY_TRANSACTIONS = _counter("rekey_transactions_total", "Transactions on the topic between the stages, by result.", "result")
REKEY_AHEAD = _gauge("rekey_partitions_held_back", "Input partitions that are not read further for now, because other partitions are behind them.")
UNKEYED = _counter("kafka_unkeyed_records_total", "Sampled records that hold several traces, or have another key than the id of their trace. One record in 128, and the first of each poll, is sampled.")
SPLIT_TRACES = _counter("kafka_split_traces_total", "Closed traces with spans on several partitions of this replica: producers use different partitioners.")
# APM statistics of all traffic, before sampling
UNCOUNTED_TRACES = _counter("uncounted_traces_total", "Traces that APM statistics or span metrics could not count, by which of the two. The trace itself is processed as usual.", "by")
STATS_SPANS = _counter("stats_spans_total", "Spans counted in Datadog's APM statistics: of all traces, the spans that enter a service, are measured, or call another service.")
STATS_UNREADABLE = _counter("stats_unreadable_spans_total", "Spans that are missing in the APM statistics, because one of their attributes could not be parsed.")
STATS_OVERFLOW = _counter("stats_overflow_spans_total", "Spans counted under `tss.overflow`, because there was no room for another series.")
STATS_GROUPS = _gauge("stats_groups_current", "Groups of APM statistics that wait to be sent; a group is one series in ten seconds.")
STATS_BYTES = _gauge("stats_bytes_current", "Approximate bytes of these groups and their names.")
STATS_PAYLOADS = _counter("stats_payloads_total", "Attempts to send APM statistics, by result: sent, or the error.", "result")
# Kafka
CONSUMER_LAG = _gauge("kafka_consumer_lag", "Records between the read position and the end of the partition.", "topic", "partition", alert="kafka_consumer_lag > 1000")
RECORDS_LOST = _counter("kafka_records_lost_total", "**Real loss**: offsets that retention or a person deleted before their records were settled, or that the client could not read (wrong checksum). Counted when the loss is found, at an assignment or while reading. If the topic is written in transactions, the number is up to twice the number of records.", "topic", "partition")
OLDEST_AGE = _gauge("kafka_oldest_uncommitted_age_seconds", "Age of the oldest unsettled record, by the largest record timestamp up to it, because retention uses that; 0 while no record waits, NaN while no record has had a timestamp.", "topic", "partition")
RETENTION = _gauge("kafka_retention_seconds", "The topic's `retention.ms`, read every few minutes. +Inf: no limit. NaN: the brokers do not tell (this needs the ACL DescribeConfigs).", "topic")
RETENTION_BYTES = _gauge("kafka_retention_bytes", "The topic's `retention.bytes`, for each partition. +Inf: no limit. NaN: the brokers do not tell.", "topic")
HEADROOM = _gauge("kafka_deletion_headroom_records", "Offsets between the first record of the partition and the oldest unsettled record: the broker can delete so many without a loss.", "topic", "partition")
UNCOMMITTED = _gauge("kafka_uncommitted_records", "Offsets between the low water (the oldest unsettled record) and the read position.", "topic", "partition")
COMMITS = _counter("kafka_commits_total", "Offset commits, by result.", "result")
SCALER_COMMITS = _counter("kafka_scaler_commits_total", "Commits of the read positions to the group kafka.scalerGroup, by result.", "result")
REBALANCES = _counter("kafka_rebalances_total", "Partitions that were assigned, revoked, lost, or replaced (their topic was deleted and created again), by event.", "event")
KAFKA_ERRORS = _counter("kafka_errors_total", "Errors that the Kafka client reported and continued after, by name.", "error")
PAUSES = _counter("backpressure_pauses_total", "How often reading was paused, because the next stage could not take what was read.")
PAUSED = _gauge("backpressure_paused", "1 while reading is paused.")
# Span metrics (spanMetrics)
SPAN_METRICS_SERIES = _gauge("span_metrics_series_current", "Series of spanMetrics.")
SPAN_METRICS_LIMIT = _gauge("span_metrics_series_limit", "The setting spanMetrics.maxSeries; 0 while spanMetrics is off. At the limit, spans of further series count as otel_metric_overflow.")
SPAN_METRICS_EXPORTS = _counter("span_metrics_exports_total", "Attempts to send spanMetrics by OTLP, by result. The next attempt includes what a failed attempt did not deliver.", "result")
# Redis
REDIS_UP = _gauge("redis_up", "1 while Redis answers and accepts writes, 0 while this replica works without Redis; absent without redis.url.", "address")
REDIS_ERRORS = _counter("redis_errors_total", "Failed calls to Redis, by operation and reason. Calls that are skipped while Redis is known to be away do not count.", "operation", "reason")
REDIS_CALLS = _histogram("redis_call_seconds", "Duration of one answered call to Redis.", _CALLS, "operation")
# The daemon
LOG_LINES_DROPPED = _counter("log_lines_dropped_total", "Lines of the daemon's log that stderr did not accept in time, or did not accept at all.")
LOOP_STALL = _histogram("event_loop_stall_seconds", "How much later than requested the event loop woke a sleeping task, measured ten times a second.", _STALLS)
HTTP_CONNECTIONS = _gauge("http_connections", "Open connections of a port: health, metrics or admin; at most 64.", "port")
HTTP_CONNECTIONS_CLOSED = _counter("http_connections_closed_total", "Connections that the daemon closed, by port and reason. full: another connection came, and the port had its maximum. slow: the client did not send its request, or did not read the answer, within 30 s. failed: the request could not be handled.", "port", "reason")
READY = _gauge("tss_ready", "1 while /health/ready answers 200: Kafka answers, the replica has joined the group, no destination is down, and the daemon is not stopping.")
COMPONENT_DEGRADED = _gauge("component_degraded", "1 while a component of /health does not work and the daemon works without it: `dead letters` (they go to the daemon's log), `redis`, `keying` (the input is not keyed), `reading` (paused).", "component")
BUILD_INFO = _gauge("tss_build_info", "Always 1.", "version", "scanner")
UNKNOWN_RULES = _counter("decisions_unknown_rules_total", "Traces that were dropped because an earlier owner of their partition may have decided them by a ruleset that this replica cannot apply, and no replica remembers the decision. rules: the ruleset is not known here. spans: spans that it asks about cannot be read again.", "reason")
RULESET_INFO = _gauge("ruleset_info", "Always 1: the current ruleset, which is the `sampling` section in use, and the number of its last change.", "fingerprint", "revision")
# fmt: on

TABLE: tuple[Measure, ...] = tuple(value for value in vars().copy().values() if isinstance(value, Measure))

_INTRODUCTION = """\
# Metrics

<!-- Made by `python -m tss.edges.metrics > docs/metrics.md`: do not edit. -->

The daemon shows these metrics at `/metrics`, in the Prometheus text format or in OpenMetrics, as the scraper asks.

- Counters without labels start at 0 when the daemon starts. So do `spans_exported_total` and the usual reasons of
  `export_errors_total`, for each destination. Other counters with labels appear at their first count.
- A histogram has the series `_bucket`, `_sum` and `_count`.
- Counters of read records, traces or spans count again if the records are read again. After a restart or a rebalance
  these are the records above the committed offset.
- The usual `process_*`, `python_gc_*` and `python_info` are there too.

| metric | type | labels | meaning | alert |
|---|---|---|---|---|
"""


def reference() -> str:
    """The table as a page of Markdown."""
    rows = [f"| {' | '.join(_cells(measure))} |\n" for measure in TABLE]
    return "".join([_INTRODUCTION, *rows])


def _cells(measure: Measure) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in measure.labels)
    return f"`{measure.name}`", measure.kind.value, labels, measure.help, f"`{measure.alert}`" if measure.alert else ""
