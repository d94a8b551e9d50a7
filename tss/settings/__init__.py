"""All settings of the daemon, read from a YAML file and the environment; see docs/settings.md."""

from tss.settings.effect import without_effect
from tss.settings.environment import CONFIG_VARIABLE
from tss.settings.errors import InvalidSetting, SettingsError
from tss.settings.kinds.policies import PolicySetting
from tss.settings.memory import buffer_bytes, is_too_much, memory_limit_bytes
from tss.settings.model import Settings
from tss.settings.reading import load
from tss.settings.sampling_text import canonical, fingerprint_of, sampling_of, text_of
from tss.settings.sections.app import App
from tss.settings.sections.datadog import Datadog
from tss.settings.sections.dead_letter import DeadLetterSettings
from tss.settings.sections.exporters import (
    DatadogExporter,
    DecisionsExporter,
    Exporter,
    FileExporter,
    KafkaExporter,
    OtlpExporter,
    ParquetExporter,
    TraceExporter,
)
from tss.settings.sections.force_sampling import ForceSampling
from tss.settings.sections.kafka import Kafka
from tss.settings.sections.observability import Observability
from tss.settings.sections.redis import Redis
from tss.settings.sections.sampling import Sampling
from tss.settings.sections.span_compression import SpanCompression
from tss.settings.sections.span_metrics import SpanMetricsSettings
from tss.settings.writing import effective, reference, render, secrets

__all__ = [
    "CONFIG_VARIABLE",
    "App",
    "Datadog",
    "DatadogExporter",
    "DeadLetterSettings",
    "DecisionsExporter",
    "Exporter",
    "FileExporter",
    "ForceSampling",
    "InvalidSetting",
    "Kafka",
    "KafkaExporter",
    "Observability",
    "OtlpExporter",
    "ParquetExporter",
    "PolicySetting",
    "Redis",
    "Sampling",
    "Settings",
    "SettingsError",
    "SpanCompression",
    "SpanMetricsSettings",
    "TraceExporter",
    "buffer_bytes",
    "canonical",
    "effective",
    "fingerprint_of",
    "is_too_much",
    "load",
    "memory_limit_bytes",
    "reference",
    "render",
    "sampling_of",
    "secrets",
    "text_of",
    "without_effect",
]
