"""For `tss check`: settings that are allowed and that hardly anybody wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import starmap
from urllib.parse import urlsplit

import attrs

from tss.commands.policy_warnings import policy_warnings
from tss.commands.units import MIB, size, time
from tss.settings import OtlpExporter, Settings, is_too_much, memory_limit_bytes, without_effect

LEAST_BUFFER_BYTES = 32 * MIB  # the least that the daemon chooses for itself
LEAST_TRACES, LEAST_SPANS, LEAST_TRACE_SPANS = 1000, 10_000, 100
LEAST_LATENCY_MS = 100  # in most services many healthy traces last longer than less than this
LEAST_STOP_SECS = 2
GRPC_PORT = 4317

# The longest wait that makes sense, and the consequence of a longer one.
_WAITS = {
    "app.rootQuietSecs": (600, "every complete trace stays in memory for that long before it is decided"),
    "app.inactivityTimeoutSecs": (3600, "an incomplete trace stays in memory, or in Redis, for that long"),
    "app.maxTraceDurationSecs": (86_400, "a trace that never ends holds Kafka's offset back for that long"),
    "app.replaySecs": (3600, "each start reads that much of the topic again"),
    "kafka.commitIntervalSecs": (300, "after a crash that much of the topic is read again"),
}
_BATCH_WAIT_SECS = 600


@attrs.frozen
class Warned:
    """One warning: the key, and what it means. ``line`` is that of the key in the file, 0 if it is not there."""

    key: str
    text: str
    line: int = 0

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line else ""
        return f"{self.key}{line}: {self.text}"


def warnings(settings: Settings, places: Mapping[str, int] | None = None) -> list[Warned]:
    """All of them, in the order of the sections. ``places`` has the line of each key in the file."""
    return [attrs.evolve(each, line=_line(each.key, places or {})) for each in _all(settings)]


def _line(key: str, places: Mapping[str, int]) -> int:
    """The line of the key, or of the list entry that it is in. The line of a whole section would say nothing."""
    while key not in places and "[" in key:
        key = key[: max(key.rfind("."), key.rfind("["))]
    return places.get(key, 0)


def _all(settings: Settings) -> list[Warned]:
    found = [*_memory(settings), *_waits(settings), *_sampling(settings), *_kafka(settings), *_exporters(settings)]
    found += [*_watching(settings)]
    idle = "this has no effect, because the feature it belongs to is off"
    return found + [Warned(key, idle) for key in without_effect(settings)]


def _memory(settings: Settings) -> Iterator[Warned]:
    app, limit = settings.app, memory_limit_bytes()
    early = "so most traces are decided early, from the spans that have come until then"
    if app.max_buffer_bytes < LEAST_BUFFER_BYTES:
        yield Warned(
            "app.maxBufferBytes",
            f"{size(app.max_buffer_bytes)} hold very few spans, {early}; leave it out, or give "
            f"{LEAST_BUFFER_BYTES} ({size(LEAST_BUFFER_BYTES)}) or more",
        )
    if is_too_much(app.max_buffer_bytes, limit):
        yield Warned(
            "app.maxBufferBytes",
            f"{size(app.max_buffer_bytes)} are more than the memory limit of {size(limit)} leaves, so the kernel kills the "
            "process when the buffer is full; leave it out, or raise the limit",
        )
    for key, value, least in (
        ("app.maxBufferTraces", app.max_buffer_traces, LEAST_TRACES),
        ("app.maxBufferSpans", app.max_buffer_spans, LEAST_SPANS),
    ):
        if value < least:
            yield Warned(key, f"{value} is very little, {early}; leave it out, or give {least} or more")
    if app.max_trace_spans < LEAST_TRACE_SPANS:
        text = f"a trace with {app.max_trace_spans} spans is decided before the rest comes; leave it out, or give {LEAST_TRACE_SPANS} or more"
        yield Warned("app.maxTraceSpans", text)
    if app.shutdown_timeout_secs < LEAST_STOP_SECS:
        text = f"in {time(app.shutdown_timeout_secs)} batches on their way are cut off, and sent twice; give 10 or more"
        yield Warned("app.shutdownTimeoutSecs", text)


def _waits(settings: Settings) -> Iterator[Warned]:
    app, kafka = settings.app, settings.kafka
    found = {
        "app.rootQuietSecs": app.root_quiet_secs,
        "app.inactivityTimeoutSecs": app.inactivity_timeout_secs,
        "app.maxTraceDurationSecs": app.max_trace_duration_secs,
        "app.replaySecs": app.replay_secs,
        "kafka.commitIntervalSecs": kafka.commit_interval_secs,
    }
    for key, secs in found.items():
        longest, consequence = _WAITS[key]
        if secs > longest:
            yield Warned(key, f"{time(secs)}: {consequence}; {time(longest)} or less is usual")
    if app.root_quiet_secs < 1:
        text = f"{time(app.root_quiet_secs)}: spans that come after the root are late; SDKs send every 5 s by default"
        yield Warned("app.rootQuietSecs", text)


def _sampling(settings: Settings) -> Iterator[Warned]:
    sampling = settings.sampling
    plan = sampling.plan
    if plan is not None:
        yield from (Warned(f"sampling.otelTailSampling.{each.path}", each.text) for each in plan.notes)
        return
    if sampling.policies:
        yield from starmap(Warned, policy_warnings(sampling))
    else:
        yield from _guides(settings)
    if sampling.sample_latency and sampling.latency_threshold_ms < LEAST_LATENCY_MS:
        text = f"most traces last {sampling.latency_threshold_ms:g} ms or longer and count as slow; the unit is ms, 5000 is usual"
        yield Warned("sampling.latencyThresholdMs", text)
    if sampling.sample_latency and sampling.latency_threshold_ms > settings.app.max_trace_duration_secs * 1000:
        text = f"hardly a trace lasts {time(sampling.latency_threshold_ms / 1000)}, because app.maxTraceDurationSecs ends it earlier"
        yield Warned("sampling.latencyThresholdMs", text)


def _guides(settings: Settings) -> Iterator[Warned]:
    sampling = settings.sampling
    errors = sampling.error_sample_rate if sampling.always_sample_errors else 0
    slow = sampling.latency_sample_rate if sampling.sample_latency else 0
    if not (errors or slow or sampling.default_sample_rate):
        yield Warned("sampling", "all rates are 0, so no trace is kept; set sampling.defaultSampleRate, such as 0.01")
    elif not sampling.default_sample_rate:
        text = (
            "no healthy trace is kept, so there is nothing to compare with; set it, such as 0.01 for one in a hundred"
        )
        yield Warned("sampling.defaultSampleRate", text)
    if sampling.default_sample_rate == 1:
        yield Warned("sampling.defaultSampleRate", "every trace is kept, so nothing is sampled; set it below 1")
    if sampling.default_sample_rate < 1 and not errors:
        text = "traces with an error are kept by chance only; set alwaysSampleErrors: true and errorSampleRate: 1"
        yield Warned("sampling.errorSampleRate", text)


def _kafka(settings: Settings) -> Iterator[Warned]:
    if not settings.kafka.enable_auto_commit:
        text = "no offset is committed, so each start reads and sends again; only for rehearsals"
        yield Warned("kafka.enableAutoCommit", text)
    if not settings.kafka.ssl_verify:
        yield Warned("kafka.sslVerify", "anybody can pose as a broker; only for trying things out")


def _exporters(settings: Settings) -> Iterator[Warned]:
    exporters = settings.effective_exporters
    for number, each in enumerate(exporters):
        at = f"exporters[{number}]" if settings.exporters else "datadog"
        if each.batch_timeout_secs > _BATCH_WAIT_SECS:
            text = f"{time(each.batch_timeout_secs)}: kept traces wait for that long, and hold Kafka's offset back"
            yield Warned(f"{at}.batchTimeoutSecs", f"{text}; {time(_BATCH_WAIT_SECS)} or less is usual")
        if isinstance(each, OtlpExporter):
            yield from _otlp(each, at)
    if exporters and all(each.match for each in exporters):
        text = "every exporter has a match, so a kept trace that fits none of them is sent nowhere; leave one without"
        yield Warned("exporters", text)


def _otlp(exporter: OtlpExporter, at: str) -> Iterator[Warned]:
    if urlsplit(exporter.endpoint).port == GRPC_PORT:
        text = f"port {GRPC_PORT} is usually OTLP over gRPC, and tss speaks OTLP over HTTP; its port is usually 4318"
        yield Warned(f"{at}.endpoint", text)
    if not exporter.ssl_verify:
        yield Warned(f"{at}.sslVerify", "anybody can pose as the backend; only for trying things out")


def _watching(settings: Settings) -> Iterator[Warned]:
    if settings.dead_letter.type == "log":
        text = "dead letters are only in the log, in pieces; to send them again, use type file or topic"
        yield Warned("deadLetter.type", text)
    if not (settings.observability.enable_prometheus or settings.observability.enable_health_check):
        text = "neither /metrics nor /health is served, so nobody sees how the daemon is; enable one of them"
        yield Warned("observability", text)
