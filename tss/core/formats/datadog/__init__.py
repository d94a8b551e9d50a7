"""OTLP spans in Datadog's words.

The words are the Datadog agent's own (`pkg/trace/transform` of its OTLP intake), so that a trace looks the same whether
the agent or this daemon translated it; `shared/reference/wire-protocols.md` 1.a and 1.e say how they travel.
"""

from tss.core.formats.datadog.peers import PEER_TAGS, peer_tags, without_addresses
from tss.core.formats.datadog.trace import DatadogSpan, lead, to_spans

__all__ = ["PEER_TAGS", "DatadogSpan", "lead", "peer_tags", "to_spans", "without_addresses"]
