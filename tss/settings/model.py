"""All settings as one object, and the table of its sections."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from attrs import frozen

from tss.settings.sections.app import App
from tss.settings.sections.datadog import Datadog
from tss.settings.sections.dead_letter import DeadLetterSettings
from tss.settings.sections.exporters import DatadogExporter, DecisionsExporter, Exporter, TraceExporter
from tss.settings.sections.force_sampling import ForceSampling
from tss.settings.sections.kafka import Kafka
from tss.settings.sections.observability import Observability
from tss.settings.sections.redis import Redis
from tss.settings.sections.sampling import Sampling
from tss.settings.sections.span_compression import SpanCompression
from tss.settings.sections.span_metrics import SpanMetricsSettings


@frozen(kw_only=True)
class Settings:
    """All settings. `load` fills in what is derived, so consumers find a value and never a question."""

    app: App = App()
    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    datadog: Datadog = Datadog()
    sampling: Sampling = Sampling()
    observability: Observability = Observability()
    span_compression: SpanCompression = SpanCompression()
    span_metrics: SpanMetricsSettings = SpanMetricsSettings()
    exporters: tuple[Exporter, ...] = ()
    dead_letter: DeadLetterSettings = DeadLetterSettings()
    force_sampling: ForceSampling = ForceSampling()

    @property
    def policies(self) -> tuple[str, ...]:
        """All names by which `exporters[].match.policies` can tell what kept a trace."""
        return (*self.sampling.keeping, *(("force",) if self.force_sampling.admin_token else ()))

    @property
    def shortest_wait_secs(self) -> float:
        """No trace is decided earlier than this after its root arrived, except because of a limit."""
        plan = self.sampling.plan
        return self.app.root_quiet_secs if plan is None else plan.shortest_wait_ms / 1000

    @property
    def longest_wait_secs(self) -> float:
        """No trace stays open for longer than this."""
        plan = self.sampling.plan
        return self.app.max_trace_duration_secs if plan is None else plan.decision_wait_ms / 1000

    @property
    def effective_exporters(self) -> tuple[TraceExporter, ...]:
        """Where kept traces go. Without `exporters` for traces the datadog section is the one destination."""
        of_traces = tuple([each for each in self.exporters if not isinstance(each, DecisionsExporter)])
        return of_traces or (DatadogExporter.of(self.datadog),)

    @property
    def decision_exporters(self) -> tuple[DecisionsExporter, ...]:
        """Where rows of decisions go."""
        return tuple([each for each in self.exporters if isinstance(each, DecisionsExporter)])


def _sections(cls: type[Any], at: str = "") -> Iterator[tuple[str, type[Any]]]:
    for field in attrs.fields(cls):
        if isinstance(field.type, type) and attrs.has(field.type):
            yield f"{at}{field.name}", field.type
            yield from _sections(field.type, f"{at}{field.name}.")


# The sections that are one mapping each, by attribute name, one in another by its path; `exporters`, a list, is read by
# its own rule.
SECTIONS: Mapping[str, type[Any]] = dict(_sections(Settings))
