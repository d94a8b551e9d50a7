"""For `tss check`: the settings in force as sentences, and those that differ from their defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs

from tss.commands.collector_words import otel_sentences
from tss.commands.policy_words import sentences
from tss.commands.units import share, size, time
from tss.settings import (
    DatadogExporter,
    DeadLetterSettings,
    DecisionsExporter,
    Exporter,
    FileExporter,
    KafkaExporter,
    OtlpExporter,
    ParquetExporter,
    Sampling,
    Settings,
    TraceExporter,
    effective,
    load,
    memory_limit_bytes,
)

# The least that settings need: the rest of what this gives are defaults, also those that depend on the machine.
_LEAST = {"TSS_KAFKA_BROKERS": "broker:9092", "TSS_EXPORTERS": "[{name: file, type: file, path: file}]"}
_NO_DEFAULT = frozenset({"kafka.brokers"})


@attrs.frozen
class Difference:
    """A key whose value is not the default. Secrets are masked in both."""

    key: str
    value: object
    default: object

    def __str__(self) -> str:
        value, default = (self._shown(each) for each in (self.value, self.default))
        return f"{self.key}: {value} (default: {default})"

    def _shown(self, value: object) -> str:
        if self.key == "sampling.otelTailSampling" and value is not None:
            return "a Collector's section, see above"
        if self.key == "sampling.policies" and isinstance(value, list) and value:
            return f"{len(value)} policies, see above" if len(value) > 1 else "one policy, see above"
        if self.key.endswith("Bytes") and isinstance(value, int) and value:
            return size(value)
        return _shown(value)


def _shown(value: object) -> str:
    return "empty" if value in ("", [], {}) else value if isinstance(value, str) else json.dumps(value)


def document(settings: Settings) -> dict[str, Any]:
    """All settings as the YAML file has them, secrets masked."""
    return cast(dict[str, Any], effective(settings))


def differences(settings: Settings) -> list[Difference]:
    """The keys of the sections, then those of the exporters."""
    ours, usual = document(settings), document(load(None, _LEAST))
    # With policies, the switches of the guide's three have another default.
    plain_sampling = attrs.evolve(load(None, _LEAST), sampling=_plain_sampling(settings.sampling))
    usual["sampling"] = document(plain_sampling)["sampling"] | {"policies": [], "otelTailSampling": None}
    ours_of_exporters = ours.pop("exporters")
    del usual["exporters"]
    plain = attrs.evolve(settings, exporters=tuple(_plain(each, settings) for each in settings.exporters))
    usual_of_exporters = document(plain)["exporters"]
    found = [*_differences("", ours, usual)]
    for number, (exporter, default) in enumerate(zip(ours_of_exporters, usual_of_exporters, strict=True)):
        found += _differences(f"exporters[{number}]", exporter, default)
    return found


def _plain_sampling(sampling: Sampling) -> Sampling:
    return Sampling(policies=sampling.policies, otel_tail_sampling=sampling.otel_tail_sampling)


def _plain(exporter: Exporter, settings: Settings) -> Exporter:
    """An exporter of this type with nothing but what it must have."""
    if isinstance(exporter, DatadogExporter):
        return DatadogExporter.of(settings.datadog, name=exporter.name)
    needed = {
        name: getattr(exporter, name) for name in ("name", "path", "endpoint", "topic") if hasattr(exporter, name)
    }
    if isinstance(exporter, ParquetExporter):  # the default of batchBytes depends on app.maxBufferBytes
        needed["batch_bytes"] = exporter.batch_bytes
    return type(exporter)(**needed)


def _differences(at: str, ours: Mapping[str, Any], usual: Mapping[str, Any]) -> Iterator[Difference]:
    for name, value in ours.items():
        key, default = f"{at}.{name}" if at else name, usual.get(name)
        if isinstance(value, dict) and isinstance(default, dict) and default:
            yield from _differences(key, value, default)
        elif value != default and key not in _NO_DEFAULT:
            yield Difference(key, value, default)


def in_force(settings: Settings) -> dict[str, list[str]]:
    """Sentences by subject."""
    return {
        "Reads": [*_reads(settings)],
        "Decides": [*_decides(settings)],
        "Keeps": [*_keeps(settings)],
        "Sends to": [
            *(f"{each.name}: {_place(each)}, {_taken(each)}" for each in settings.effective_exporters),
            *map(_rows, settings.decision_exporters),
        ],
        "Dead letters": [_dead_letters(settings.dead_letter)],
        "Memory": [*_memory(settings)],
        "Redis": [*_redis(settings)],
        "Pages": [*_pages(settings)],
    }


def _reads(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
    yield f"topic {kafka.input_topic} at {kafka.brokers}, consumer group {kafka.consumer_group}"
    yield f"a partition without a committed offset: from the {kafka.auto_offset_reset} record"
    if kafka.rekey.enabled:
        yield f"records are first split by trace, into topic {kafka.rekey.topic}"
    if not kafka.enable_auto_commit:
        yield "no offset is ever committed (kafka.enableAutoCommit is false)"


def _decides(settings: Settings) -> Iterator[str]:
    app, plan = settings.app, settings.sampling.plan
    if plan is not None:
        yield f"{time(plan.decision_wait_ms / 1000)} after the first span of the trace (decision_wait)"
        if plan.root_wait_ms:
            after_root = "decision_wait_after_root_received"
            yield f"or {time(plan.root_wait_ms / 1000)} after its root, if that is earlier ({after_root})"
        yield f"or when the trace has {app.max_trace_spans:,} spans, or the memory for open traces is full"
        if plan.max_trace_bytes:
            yield f"a trace with more than {size(plan.max_trace_bytes)} is dropped at once (maximum_trace_size_bytes)"
        return
    yield f"when the root span is there, no parent is missing, and no span came for {time(app.root_quiet_secs)}"
    yield f"or when no span came for {time(app.inactivity_timeout_secs)}"
    yield f"or when the trace has been open for {time(app.max_trace_duration_secs)} or has {app.max_trace_spans:,} spans"
    yield "or earlier when the memory for open traces is full"


def _keeps(settings: Settings) -> Iterator[str]:
    sampling = settings.sampling
    plan = sampling.plan
    if plan is not None:
        yield from otel_sentences(plan)
    if sampling.policies:
        yield from sentences(sampling)
    if sampling.always_sample_errors:
        yield f"{share(sampling.error_sample_rate)} of the traces with an error (errors)"
    if sampling.sample_latency:
        slow = time(sampling.latency_threshold_ms / 1000)
        yield f"{share(sampling.latency_sample_rate)} of the traces that last {slow} or longer (latency)"
    if sampling.has_default:
        yield f"{share(sampling.default_sample_rate)} of all other traces (default)"
    if settings.force_sampling.admin_token:
        yield "force rules come first, while there are any (force)"


def _rows(exporter: DecisionsExporter) -> str:
    place = {"file": f"file {exporter.path}", "parquet": f"Parquet files in folder {exporter.path}"}
    share = "every decided trace" if exporter.share == 1 else f"{exporter.share:g} of the decided traces"
    return f"{exporter.name}: {place.get(exporter.via, f'Kafka topic {exporter.topic}')}, a row for {share}"


def _place(exporter: TraceExporter) -> str:
    match exporter:
        case FileExporter():
            return f"file {exporter.path}"
        case ParquetExporter():
            return f"Parquet files in folder {exporter.path}"
        case OtlpExporter():
            return f"OTLP to {exporter.endpoint}"
        case KafkaExporter():
            return f"Kafka topic {exporter.topic}"
        case DatadogExporter(via="agent"):
            return f"Datadog agent {exporter.agent_url}"
        case DatadogExporter():
            return (
                f"Datadog's {'OTLP ' if exporter.via == 'otlp' else ''}intake at {exporter.intake_url or exporter.site}"
            )


def _taken(exporter: TraceExporter) -> str:
    if not exporter.match:
        return "every kept trace"
    return f"kept traces that match {json.dumps(dict(exporter.match), default=list)}"


def _dead_letters(dead: DeadLetterSettings) -> str:
    places = {"file": f"file {dead.path}", "topic": f"Kafka topic {dead.topic}", "log": "the daemon's log"}
    return f"{places[dead.type]}: records that cannot be read, traces that a destination refuses"


def _memory(settings: Settings) -> Iterator[str]:
    app = settings.app
    yield f"{size(app.max_buffer_bytes)} for open traces, of a limit of {size(memory_limit_bytes())} for this process"
    yield f"at most {app.max_buffer_traces:,} open traces and {app.max_buffer_spans:,} spans"


def _redis(settings: Settings) -> Iterator[str]:
    redis = settings.redis
    if not redis.url:
        yield "not used: each replica knows only its own decisions, and no trace is parked"
        return
    yield f"{document(settings)['redis']['url']}: decisions are shared for {time(redis.decision_ttl_secs)}"
    yield f"traces that are open for longer than {time(settings.app.park_after_secs)} are parked there"


def _pages(settings: Settings) -> Iterator[str]:
    seen, force = settings.observability, settings.force_sampling
    if seen.enable_health_check:
        yield f"/health on {seen.health_addr}:{seen.health_port}"
    if seen.enable_prometheus:
        yield f"/metrics on {seen.metrics_addr}:{seen.metrics_port}"
    if force.admin_token:
        at = f"{force.admin_addr}:{force.admin_port}" if force.admin_port else "the port of /health"
        yield f"/admin on {at}"
    if not (seen.enable_health_check or seen.enable_prometheus):
        yield "no page is served"
