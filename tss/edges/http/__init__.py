"""The HTTP client: whoever sends traces, APM statistics or metrics to an OTLP server or to Datadog comes in here."""
