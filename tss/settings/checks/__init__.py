"""Checks that compare several keys."""

from collections.abc import Iterator

from tss.settings.checks import datadog, exporters, kafka, ports, redis, sampling, times, topics
from tss.settings.checks.conflict import Conflict
from tss.settings.model import Settings


def conflicts(settings: Settings) -> Iterator[Conflict]:
    """All contradictions between keys. Values of their own kind are already valid."""
    yield from times.conflicts(settings)
    yield from kafka.conflicts(settings)
    yield from redis.conflicts(settings.redis)
    yield from sampling.conflicts(settings.sampling)
    yield from ports.conflicts(settings)
    yield from datadog.conflicts(settings)
    yield from exporters.conflicts(settings)
    yield from topics.conflicts(settings)
