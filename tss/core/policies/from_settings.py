"""Makes the policies from the settings."""

from __future__ import annotations

from typing import Protocol

from tss.core.policies.errors import Errors
from tss.core.policies.latency import Latency
from tss.core.policies.policy import Policy
from tss.core.policies.rest import Rest


class SamplingSettings(Protocol):
    """The ``sampling`` section of the settings."""

    @property
    def always_sample_errors(self) -> bool: ...
    @property
    def error_sample_rate(self) -> float: ...
    @property
    def sample_latency(self) -> bool: ...
    @property
    def latency_threshold_ms(self) -> float: ...
    @property
    def latency_sample_rate(self) -> float: ...
    @property
    def default_sample_rate(self) -> float: ...


def policies(sampling: SamplingSettings) -> list[Policy]:
    """The policies. If several ask for the same rate, the first of them is named in the decision."""
    chosen: list[Policy] = []
    if sampling.always_sample_errors:
        chosen.append(Errors(sampling.error_sample_rate))
    if sampling.sample_latency:
        chosen.append(Latency(sampling.latency_threshold_ms, sampling.latency_sample_rate))
    chosen.append(Rest(sampling.default_sample_rate))
    return chosen
