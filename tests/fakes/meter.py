"""A meter that is a dict, and holds every call against the table of measures."""

from collections import defaultdict
from collections.abc import Sequence

from tss.core.measures import Measure, MetricType, ReadGauge


class FakeMeter:
    """Implements Meter. Raises AssertionError for what the real one could not have shown."""

    def __init__(self) -> None:
        self.counters: defaultdict[tuple[str, tuple[str, ...]], float] = defaultdict(float)
        self.gauges: dict[tuple[str, tuple[str, ...]], float] = {}
        self.observed: defaultdict[tuple[str, tuple[str, ...]], list[float]] = defaultdict(list)
        self.watched: dict[tuple[str, tuple[str, ...]], ReadGauge] = {}

    def __repr__(self) -> str:
        return f"<FakeMeter {dict(self.counters)}>"

    def count(self, measure: Measure, amount: float = 1, *labels: str) -> None:
        self._hold_against_table(measure, labels, MetricType.COUNTER)
        assert amount >= 0, f"{measure.name} goes down by {amount}"
        self.counters[measure.name, labels] += amount

    def observe(self, measure: Measure, value: float, *labels: str) -> None:
        self._hold_against_table(measure, labels, MetricType.HISTOGRAM)
        assert value >= 0, f"{measure.name} observes {value}"
        self.observed[measure.name, labels].append(value)

    def observe_all(self, measure: Measure, values: Sequence[float], *labels: str) -> None:
        for value in values:
            self.observe(measure, value, *labels)

    def set(self, measure: Measure, value: float, *labels: str) -> None:
        self._hold_against_table(measure, labels, MetricType.GAUGE)
        self.gauges[measure.name, labels] = value

    def forget(self, measure: Measure, *labels: str) -> None:
        self._hold_against_table(measure, labels, measure.kind)
        self.gauges.pop((measure.name, labels), None)
        self.counters.pop((measure.name, labels), None)
        self.watched.pop((measure.name, labels), None)

    def watch(self, measure: Measure, read: ReadGauge, *labels: str) -> None:
        self._hold_against_table(measure, labels, measure.kind)
        assert measure.kind is not MetricType.HISTOGRAM
        assert (measure.name, labels) not in self.watched, f"{measure.name}{labels} is watched twice"
        self.watched[measure.name, labels] = read

    # -- for tests

    def counted(self, measure: Measure, *labels: str) -> float:
        """The counter's value; without labels the sum over all of them."""
        if labels or not measure.labels:
            return self._value((measure.name, labels))
        return sum(self._value(series) for series in {**self.counters, **self.watched} if series[0] == measure.name)

    def by_label(self, measure: Measure) -> dict[tuple[str, ...], float]:
        """The counter's values by labels."""
        found = {
            series: self._value(series) for series in {**self.counters, **self.watched} if series[0] == measure.name
        }
        return {labels: value for (_, labels), value in found.items() if value}

    def _value(self, series: tuple[str, tuple[str, ...]]) -> float:
        return self.watched[series]() if series in self.watched else self.counters.get(series, 0)

    @staticmethod
    def _hold_against_table(measure: Measure, labels: tuple[str, ...], kind: MetricType) -> None:
        assert measure.kind is kind, f"{measure.name} is a {measure.kind.value}, used as a {kind.value}"
        assert len(labels) == len(measure.labels), f"{measure.name} has labels {measure.labels}, given {labels}"
        assert all(isinstance(label, str) for label in labels), f"{measure.name} is given {labels}"
