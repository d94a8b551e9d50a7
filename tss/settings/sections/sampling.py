"""`sampling`: which traces are kept."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import WEEK_SECS, number, rate, truth
from tss.settings.kinds.units import MILLISECONDS


@frozen(kw_only=True)
class Sampling:
    """Which traces are kept. The random choice depends only on the trace id, so all replicas and all reruns decide the same."""

    always_sample_errors: bool = key(
        True, truth, "Detect traces with an error, and keep the share `errorSampleRate` of them."
    )
    error_sample_rate: float = key(1, rate, "Share of the traces with an error that is kept.")
    sample_latency: bool = key(True, truth, "Detect slow traces, and keep the share `latencySampleRate` of them.")
    latency_threshold_ms: float = key(
        5000, number(0, 1000 * WEEK_SECS, units=MILLISECONDS), "A trace is slow if it lasts this long or longer."
    )
    latency_sample_rate: float = key(0.1, rate, "Share of the slow traces that is kept.")
    default_sample_rate: float = key(0, rate, "Share of all other traces that is kept.")

    @property
    def policies(self) -> dict[str, float]:
        """The policies that are in force, as decisions name them, with the rate of each."""
        rates = {}
        if self.always_sample_errors:
            rates["errors"] = self.error_sample_rate
        if self.sample_latency:
            rates["latency"] = self.latency_sample_rate
        return rates | {"default": self.default_sample_rate}
