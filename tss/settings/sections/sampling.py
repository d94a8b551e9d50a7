"""`sampling`: which traces are kept."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import WEEK_SECS, number, rate, truth
from tss.settings.kinds.units import MILLISECONDS


@frozen(kw_only=True)
class Sampling:
    """Which traces are kept. Chance is taken from the trace id, so every replica and every rerun agrees."""

    always_sample_errors: bool = key(True, truth, "Look for traces with an error, and keep `errorSampleRate` of them.")
    error_sample_rate: float = key(1, rate, "Share kept of the traces with an error.")
    sample_latency: bool = key(True, truth, "Look for slow traces, and keep `latencySampleRate` of them.")
    latency_threshold_ms: float = key(
        5000, number(0, 1000 * WEEK_SECS, units=MILLISECONDS), "A trace that lasts this long or longer is slow."
    )
    latency_sample_rate: float = key(0.1, rate, "Share kept of the slow traces.")
    default_sample_rate: float = key(0, rate, "Share kept of all other traces.")

    @property
    def policies(self) -> tuple[str, ...]:
        """The names that decisions give to what keeps traces by these settings."""
        chosen = (self.always_sample_errors and "errors", self.sample_latency and "latency", "default")
        return tuple(name for name in chosen if name)
