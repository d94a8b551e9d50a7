"""Translates OTLP spans to Datadog's spans.

The names and values are those of the Datadog agent's OTLP intake (`pkg/trace/transform` in github.com/DataDog/datadog-agent),
so that a trace looks the same whether the agent or this daemon translated it.
"""

from tss.core.formats.datadog.peers import PEER_TAGS, peer_tags, without_addresses
from tss.core.formats.datadog.trace import DatadogSpan, lead, to_spans

__all__ = ["PEER_TAGS", "DatadogSpan", "lead", "peer_tags", "to_spans", "without_addresses"]
