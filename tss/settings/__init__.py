"""All settings of the daemon, read from a YAML file and the environment; see docs/settings.md."""

from tss.settings.checks import without_effect
from tss.settings.environment import CONFIG_VARIABLE
from tss.settings.faults import Fault, SettingsError
from tss.settings.memory import buffer_bytes, is_too_much, memory_limit_bytes
from tss.settings.model import (
    App,
    Datadog,
    DatadogExporter,
    DeadLetter,
    Exporter,
    FileExporter,
    ForceSampling,
    Kafka,
    KafkaExporter,
    Observability,
    OtlpExporter,
    ParquetExporter,
    Redis,
    Sampling,
    Settings,
    SpanCompression,
    SpanMetrics,
)
from tss.settings.reading import load
from tss.settings.writing import reference, render, secrets

__all__ = [
    "CONFIG_VARIABLE",
    "App",
    "Datadog",
    "DatadogExporter",
    "DeadLetter",
    "Exporter",
    "Fault",
    "FileExporter",
    "ForceSampling",
    "Kafka",
    "KafkaExporter",
    "Observability",
    "OtlpExporter",
    "ParquetExporter",
    "Redis",
    "Sampling",
    "Settings",
    "SettingsError",
    "SpanCompression",
    "SpanMetrics",
    "buffer_bytes",
    "is_too_much",
    "load",
    "memory_limit_bytes",
    "reference",
    "render",
    "secrets",
    "without_effect",
]
