"""OTLP spans in Datadog's words.

Source: `shared/reference/wire-protocols.md` 1.a and 1.e, which follow the Datadog agent's own OTLP intake
(`pkg/trace/transform`), so that a trace looks the same whether the agent or this daemon translated it.
"""

from tss.core.datadog.trace import DatadogSpan, lead, to_spans

__all__ = ["DatadogSpan", "lead", "to_spans"]
