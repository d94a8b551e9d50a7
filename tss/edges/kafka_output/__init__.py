"""Kafka as a destination: whoever writes a topic exactly once (kept traces, or rekeyed spans) comes in here."""
