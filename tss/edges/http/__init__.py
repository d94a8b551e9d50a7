"""Destinations by HTTP: whoever sends traces, statistics or metrics to an OTLP server or to Datadog comes in here."""
