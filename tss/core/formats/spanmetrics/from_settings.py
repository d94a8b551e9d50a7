"""Translates the settings into the `Shape` of the span metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tss.core.formats.spanmetrics.series import Dimension, Shape

NS_PER_MS = 1_000_000


class SpanMetricsSettings(Protocol):
    """The keys of the settings' section `spanMetrics` that affect counting."""

    @property
    def dimensions(self) -> Sequence[str]: ...

    @property
    def buckets_ms(self) -> Sequence[float]: ...

    @property
    def max_series(self) -> int: ...

    @property
    def exemplars(self) -> bool: ...


def shape_of(settings: SpanMetricsSettings) -> Shape:
    """The Shape that the settings describe. `key=default` is a dimension with a default."""
    bounds_ns = tuple(round(bound * NS_PER_MS) for bound in settings.buckets_ms)
    return Shape(tuple(map(_dimension, settings.dimensions)), bounds_ns, settings.max_series, settings.exemplars)


def _dimension(text: str) -> Dimension:
    key, has_default, default = text.partition("=")
    return Dimension(key, default if has_default else None)
