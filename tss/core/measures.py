"""Every metric the daemon has, in one table: the edge makes them from it, and so does docs/metrics.md."""

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
    """One metric. ``name`` is the full exposition name; ``buckets`` (upper bounds, histograms only) are in its unit;
    ``alert`` is the guide's alert on it, in PromQL."""

    name: str
    kind: MetricType
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    alert: str = ""


ReadGauge = Callable[[], float]


class Meter(Protocol):
    """Where tasks count; called per batch, never per span."""

    def count(self, measure: Measure, amount: float = 1, *labels: str) -> None:
        """Add to a counter."""

    def observe(self, measure: Measure, value: float, *labels: str) -> None:
        """Add one value to a histogram."""

    def observe_all(self, measure: Measure, values: Sequence[float], *labels: str) -> None:
        """Add many values to a histogram, for less than one each."""

    def set(self, measure: Measure, value: float, *labels: str) -> None:
        """Set a gauge."""

    def forget(self, measure: Measure, *labels: str) -> None:
        """Stop showing these labels: what they named is gone."""

    def watch(self, measure: Measure, read: ReadGauge, *labels: str) -> None:
        """Let a gauge be read at each scrape."""


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
# What comes in
RECORDS_READ = _counter("kafka_records_read_total", "Records read from the input topic, replayed ones included.")
RECORDS_REPLAYED = _counter("kafka_records_replayed_total", "Records below the committed offset that were read again so that their traces keep their verdict.")
TRACES_INGESTED = _counter("traces_ingested_total", "Traces seen for the first time in the input topic.")
SPANS_INGESTED = _counter("spans_ingested_total", "Spans read from the input topic, replayed ones not included.")
UNREADABLE = _counter("records_unreadable_total", "Records, or parts of them, that could not be read as spans, by reason; they went to the dead letters.", "reason")
ABSURD_TIMESTAMPS = _counter("absurd_timestamps_total", "Record timestamps further ahead of the wall clock than maxClockSkewSecs; they count as now.")
TIME_AHEAD = _gauge("stream_time_ahead_seconds", "How far a partition's newest record timestamp is ahead of this replica's clock, of the partition where it is most; 0 where none is. Until the clock has come there, traces on it close late.")
# What is held
BUFFER_TRACES = _gauge("buffer_traces_current", "Open traces in the buffer.", alert="buffer_traces_current / buffer_traces_limit > 0.8")
BUFFER_TRACES_LIMIT = _gauge("buffer_traces_limit", "maxBufferTraces.")
BUFFER_SPANS = _gauge("buffer_spans_current", "Spans of open traces in the buffer.")
BUFFER_SPANS_LIMIT = _gauge("buffer_spans_limit", "maxBufferSpans.")
BUFFER_BYTES = _gauge("buffer_bytes_current", "Bytes held of all that maxBufferBytes is about: the sum of held_bytes.")
HELD_BYTES = _gauge("held_bytes", "Bytes held, by kind: open traces, closed ones on their way to a destination, ledgers, the memory of decisions, polled records that were not taken in yet, samples for packing, what an output topic has of partitions that were just assigned.", "kind")
BUFFER_BYTES_LIMIT = _gauge("buffer_bytes_limit", "maxBufferBytes.")
PACKED_TRACES = _counter("packed_traces_total", "Quiet open traces that were compressed in place, because more than half of maxBufferBytes was held.")
PACKED_SAVED = _counter("packed_saved_bytes_total", "Bytes that packing quiet traces gave back.")
DICTIONARY_VERSION = _gauge("packing_dictionary_version", "Which dictionary quiet traces are packed with; 0 until the first is trained.")
MEMORY_KEPT = _gauge("decision_memory_kept_current", "Kept traces of which it is remembered what was delivered.")
MEMORY_DROPPED = _gauge("decision_memory_dropped_current", "Other closed traces whose decision is remembered, about; most of them were dropped.")
MEMORY_REACH = _gauge("decision_memory_reach_seconds", "How much stream time lies between now and the oldest decision that is remembered, of the partition where it is least: decisionMemorySecs, or less since a start or where maxBufferBytes has no room for more.")
MEMORY_EVICTIONS = _counter("decision_memory_evictions_total", "Kept traces of which it was forgotten what was delivered, as others were used more recently; with Redis it is found there. Their decision may be remembered longer.")
DECISION_LOOKUPS = _counter("decision_lookups_total", "Closed traces that Redis was asked for, since another replica could have decided them, by outcome: kept, dropped, unknown, unreadable (of another version), or away, when what is known here decided.", "outcome")
DECISION_WRITES = _counter("decision_writes_total", "Decisions told to Redis, by outcome: written, or away, when they settled all the same.", "outcome")
CHANNEL_FILL = _gauge("channel_fill", "Batches waiting in a channel between two tasks.", "channel")
CHANNEL_LIMIT = _gauge("channel_limit", "Batches a channel between two tasks can hold.", "channel")
PARKED_TRACES = _gauge("parked_traces", "Traces of which Redis has spans that Kafka may forget, and that are not settled yet.")
PARKED_BYTES = _counter("parked_bytes_total", "Bytes of frames and summaries that were put into Redis.")
PARKINGS = _counter("parkings_total", "Times spans of an open trace were moved to Redis.")
PARKING_REFUSED = _counter("parking_refused_total", "Traces that were to be parked and stay in memory for now, by reason: away, full, lost, memory (too many wait to be removed there).", "reason")
PARKED_GIVEN_UP = _counter("parked_traces_given_up_total", "Parked traces whose topic was deleted and made again: what stood of them in Redis is lost, and what is in memory is decided without it.")
UNPARKINGS = _counter("unparkings_total", "Closed traces whose spans were fetched back from Redis.")
UNPARKING_WAITING = _gauge("unparking_waiting_traces", "Closed traces that wait for their spans from Redis; nothing else waits for them.")
UNLOOKED = _counter("parked_traces_unlooked_total", "Parked traces taken over that were parked under other settings of exporters[].match, or by an older version; what they are matched by is looked up again in their spans.")
REREAD = _counter("partitions_reread_total", "Partitions read again from where their oldest parked trace begins, by reason: away, not_fitting, off, lost, two_partitions.", "reason")
# What is decided
DECISIONS = _counter("decisions_total", "Traces decided, by the policy that had the last word, the verdict, and why the trace was decided when it was.", "policy", "verdict", "reason")
DECIDED_SPANS = _counter("decided_spans_total", "Spans of decided traces, by verdict.", "verdict")
DECISION_DELAY = _histogram("decision_delay_seconds", "Stream time from a trace's first record to its decision.", _LONG_SECONDS)
TWO_PARTITIONS = _counter("traces_on_two_partitions_total", "Traces with spans on more than one partition: producers do not agree on a partitioner, or the topic is not keyed by trace.")
LATE_SPANS = _counter("late_spans_total", "Spans that came after their trace's decision and followed it, by verdict. Those of a dropped trace count again when they are read again.", "verdict")
DUPLICATE_SPANS = _counter("duplicate_spans_total", "Spans read again of a kept trace that every destination already had; settled without sending them twice.")
FORCED = _counter("force_decisions_total", "Traces decided by a force rule, by its name; in `decisions_total` their policy is `force`. Names of rules that are gone stay until 200 others have come.", "rule", "verdict")
FORCE_RULES = _gauge("force_rules_current", "Force rules known and not over, enabled or not.")
FORCE_READS = _counter("force_rules_reads_total", "Tries to read the force rules from Redis, by result; with `away` those known go on until they expire.", "result")
# What is changed of kept traces
DUPLICATES_REMOVED = _counter("export_duplicate_spans_total", "Spans of kept traces that were there twice, byte for byte, and went out once.")
COMPRESSED_SPANS = _counter("compressed_spans_total", "Spans of kept traces that became part of a composite.")
COMPRESSED_GROUPS = _counter("compressed_groups_total", "Composite spans that were made of them.")
COMPRESSION_SPANS_IN = _counter("compression_spans_in_total", "Spans of kept traces before compression, repeated ones not counted.")
COMPRESSION_SPANS_OUT = _counter("compression_spans_out_total", "Spans of kept traces after compression: in divided by out is the ratio, 1 while spanCompression is off.")
# What goes out
TRACES_SAMPLED = _counter("traces_sampled_total", "Kept traces that every destination has taken.")
TRACES_UNPREPARED = _counter("traces_unprepared_total", "Kept traces that could not be looked through for repeated and alike spans: they were sent as they came.")
TRACES_UNROUTED = _counter("traces_unrouted_total", "Kept traces that no exporter's `match` takes: they were sent nowhere.")
SPANS_ASTRAY = _counter("spans_astray_total", "Spans of kept traces that were decided to go to an exporter which is not in the settings any more (renamed or removed): not sent there.")
SPANS_EXPORTED = _counter("spans_exported_total", "Spans that a destination has taken.", "destination")
EXPORT_ERRORS = _counter("export_errors_total", "Failed tries to send a batch, by destination and reason.", "destination", "reason", alert="increase(export_errors_total[5m]) > 0")
EXPORTER_DOWN = _gauge("exporter_down_seconds", "For how long the destination has taken nothing and gets single probes; 0 while it takes what it is sent.", "destination")
EXPORTER_HELD = _gauge("exporter_held_traces", "Traces that the destination has refused and that are held to be tried again; an operator may release them to the dead letters.", "destination")
EXPORT_LATENCY = _histogram("export_latency_seconds", "Time of one try to send a batch.", _SECONDS, "destination")
EXPORT_REJECTED = _counter("export_rejected_spans_total", "Spans that a destination named as rejected while it took the rest of their batch.", "destination")
DEAD_LETTERS = _counter("dead_letters_total", "Records and traces put aside, by reason and by where they were put.", "reason", "place")
TRANSACTIONS = _counter("kafka_transactions_total", "Transactions on the output topic of an exporter of type kafka, by result; a failed one is sent again.", "result")
READ_BACK = _counter("kafka_output_records_read_back_total", "Records of the output topic that were read when partitions were assigned, to know what it has already.")
# What the first stage does (kafka.rekey), and whether there should be one
REKEY_RECORDS = _counter("rekey_records_total", "Records of the input topic that were split by trace.")
REKEY_FRAGMENTS = _counter("rekey_fragments_total", "Records that the topic between the stages was given: one for each trace in each record.")
REKEY_UNREADABLE_HEADERS = _counter("rekey_unreadable_headers_total", "Records that were split by trace without their headers, since the name of one is not UTF-8; their spans are complete.")
REKEY_TRANSACTIONS = _counter("rekey_transactions_total", "Transactions on the topic between the stages, by result.", "result")
REKEY_AHEAD = _gauge("rekey_partitions_held_back", "Input partitions not read on for now, since others are behind them.")
UNKEYED = _counter("kafka_unkeyed_records_total", "Of the records whose key was looked at (one in 128, and the first of each poll), those with several traces, or with another key than their trace's id.")
SPLIT_TRACES = _counter("kafka_split_traces_total", "Closed traces with spans on several partitions of this replica: producers do not agree on a partitioner.")
# What is counted of all traffic, before sampling
UNCOUNTED_TRACES = _counter("uncounted_traces_total", "Traces that statistics or span metrics could not count, by which of them; the trace itself goes on.", "by")
STATS_SPANS = _counter("stats_spans_total", "Spans counted in Datadog's statistics: of all traces, those that enter a service, are measured, or speak to another service.")
STATS_UNREADABLE = _counter("stats_unreadable_spans_total", "Spans that are missing in the statistics, since an attribute of theirs could not be parsed.")
STATS_OVERFLOW = _counter("stats_overflow_spans_total", "Spans counted under `tss.overflow`, since there was no room for another series.")
STATS_GROUPS = _gauge("stats_groups_current", "Groups of statistics that wait to be sent: series by ten seconds.")
STATS_BYTES = _gauge("stats_bytes_current", "Bytes of these groups and their names, about.")
STATS_PAYLOADS = _counter("stats_payloads_total", "Tries to send statistics, by result: sent, or what was wrong.", "result")
# What Kafka is told
CONSUMER_LAG = _gauge("kafka_consumer_lag", "Records between the read position and the end of the partition.", "topic", "partition", alert="kafka_consumer_lag > 1000")
RECORDS_LOST = _counter("kafka_records_lost_total", "Offsets that retention, or somebody, deleted before their records were done with, or that the client could not read (a wrong checksum): **real loss**. Counted when it is found out, at an assignment or while reading; where a topic is written in transactions it is up to twice the number of records.", "topic", "partition")
OLDEST_AGE = _gauge("kafka_oldest_uncommitted_age_seconds", "How long ago the oldest record that is not done with was written, by the largest record timestamp up to it, which is what retention goes by; 0 while nothing waits, NaN while no record has told a time.", "topic", "partition")
RETENTION = _gauge("kafka_retention_seconds", "The topic's `retention.ms`, asked every few minutes; +Inf is for ever, NaN: the brokers do not tell (it takes the ACL DescribeConfigs).", "topic")
RETENTION_BYTES = _gauge("kafka_retention_bytes", "The topic's `retention.bytes`, of each partition; +Inf without a limit, NaN: the brokers do not tell.", "topic")
HEADROOM = _gauge("kafka_deletion_headroom_records", "Offsets between the first record that the partition still has and the oldest that is not done with: what can be deleted without a loss.", "topic", "partition")
UNCOMMITTED = _gauge("kafka_uncommitted_records", "Offsets between the low water (the oldest record still held) and the read position.", "topic", "partition")
COMMITS = _counter("kafka_commits_total", "Offset commits, by result.", "result")
SCALER_COMMITS = _counter("kafka_scaler_commits_total", "Commits of the read positions under kafka.scalerGroup, by result.", "result")
REBALANCES = _counter("kafka_rebalances_total", "Partitions assigned, revoked and lost; replaced: their topic was deleted and made again.", "event")
KAFKA_ERRORS = _counter("kafka_errors_total", "Errors that the Kafka client reported and went on after, by name.", "error")
PAUSES = _counter("backpressure_pauses_total", "Times reading was paused because what was read could not be passed on.")
PAUSED = _gauge("backpressure_paused", "1 while reading is paused.")
# What is counted of the spans themselves (spanMetrics)
SPAN_METRICS_SERIES = _gauge("span_metrics_series_current", "Series of spanMetrics told apart.")
SPAN_METRICS_LIMIT = _gauge("span_metrics_series_limit", "spanMetrics.maxSeries; once it is reached, spans of further series count as otel_metric_overflow. 0 while spanMetrics is off.")
SPAN_METRICS_EXPORTS = _counter("span_metrics_exports_total", "Sendings of spanMetrics by OTLP, by result; what one fails to bring the next one does.", "result")
# What is shared through Redis
REDIS_UP = _gauge("redis_up", "1 while Redis answers and takes writes, 0 while this replica goes on without; absent without redis.url.", "address")
REDIS_ERRORS = _counter("redis_errors_total", "Calls of Redis that failed, by operation and reason; those not tried while it is known to be away do not count.", "operation", "reason")
REDIS_CALLS = _histogram("redis_call_seconds", "Time of one call of Redis that was answered.", _CALLS, "operation")
# How the daemon is
LOG_LINES_DROPPED = _counter("log_lines_dropped_total", "Lines of the daemon's log that stderr did not take in time, or not at all.")
LOOP_STALL = _histogram("event_loop_stall_seconds", "How much later than asked the event loop woke a sleeper, tried ten times a second.", _STALLS)
HTTP_CONNECTIONS = _gauge("http_connections", "Open connections of a port: health, metrics or admin; 64 at most.", "port")
HTTP_CONNECTIONS_CLOSED = _counter("http_connections_closed_total", "Connections that were closed by force, by port and reason. full: another one came, and the port had as many as it may have. slow: the request was not sent, or its answer not read, within 30 s. failed: the request could not be handled.", "port", "reason")
READY = _gauge("tss_ready", "1 while /health/ready is 200: Kafka answers, the group is joined, no destination is down, nothing is stopping.")
COMPONENT_DEGRADED = _gauge("component_degraded", "1 while a component of /health does not work and the daemon does without it: `dead letters` (they go to the log), `redis`, `keying` (the input is not keyed), `reading` (paused).", "component")
BUILD_INFO = _gauge("tss_build_info", "Always 1.", "version", "scanner")
# fmt: on

TABLE: tuple[Measure, ...] = tuple(value for value in vars().copy().values() if isinstance(value, Measure))

_INTRODUCTION = """\
# Metrics

<!-- Made by `python -m tss.edges.metrics > docs/metrics.md`: do not edit. -->

What `/metrics` shows, in the Prometheus text format or in OpenMetrics, whichever the scraper asks for. Counters without
labels are there, at 0, from the start; so are `spans_exported_total` and the usual reasons of `export_errors_total` for
each destination. Any other with labels appears with what it first counts. A histogram has the series `_bucket`, `_sum`
and `_count`. What counts records, traces or spans that were read counts them again when they are read again: after a restart, or a
rebalance, that is what lies above the committed offset. Beside these there are the usual `process_*`, `python_gc_*` and `python_info`.

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
