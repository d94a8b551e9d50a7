# The compiled ones have the reference's interface, to the letter.

from tss.core.formats.spanmetrics.reference import SpanMetrics as SpanMetrics
