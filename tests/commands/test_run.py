"""The first line of the log says which settings are in force."""

from __future__ import annotations

from tss.commands.run import in_force
from tss.settings import DatadogExporter, FileExporter, Kafka, Sampling, Settings, memory_limit_bytes


def test_it_says_file_policies_destinations_and_memory() -> None:
    settings = Settings(
        kafka=Kafka(input_topic="spans", consumer_group="samplers"),
        sampling=Sampling(always_sample_errors=False, latency_sample_rate=0.5, default_sample_rate=0.25),
        exporters=(FileExporter(name="kept", path="kept.jsonl"), DatadogExporter(name="dd", api_key="k")),
    )
    assert in_force(settings, "/etc/tss.yaml") == {
        "file": "/etc/tss.yaml",
        "topic": "spans",
        "group": "samplers",
        "policies": {"latency": 0.5, "default": 0.25},
        "destinations": ["kept (file)", "dd (datadog)"],
        "memory_limit_bytes": memory_limit_bytes(),
        "max_buffer_bytes": settings.app.max_buffer_bytes,
    }


def test_without_a_file_it_names_the_environment() -> None:
    assert in_force(Settings(kafka=Kafka(input_topic="t")), None)["file"] == "none, only the environment"
