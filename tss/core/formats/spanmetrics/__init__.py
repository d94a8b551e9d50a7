"""RED metrics (calls, errors, durations) of all spans, kept and dropped, counted before sampling (law 7).

`SpanMetrics` counts. `Exposition` writes the counts for Prometheus, `Reporter` writes them as OTLP.
"""

from tss.core.formats.spanmetrics.exposition import Counted, Exposition, prometheus_name
from tss.core.formats.spanmetrics.from_settings import shape_of
from tss.core.formats.spanmetrics.otlp import Reporter
from tss.core.formats.spanmetrics.series import Dimension, Exemplar, Labels, Point, Shape

try:
    from tss.core.formats.spanmetrics.counting import SpanMetrics
except ImportError:  # there was no C compiler when this was installed
    from tss.core.formats.spanmetrics.reference import SpanMetrics

__all__ = [
    "Counted", "Dimension", "Exemplar", "Exposition", "Labels", "Point", "Reporter", "Shape", "SpanMetrics", "prometheus_name", "shape_of",
]  # fmt: skip
