"""Makes the policies from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tss.core.conditions.statement import Statement
from tss.core.policies.errors import Errors
from tss.core.policies.latency import Latency
from tss.core.policies.matching import Matching
from tss.core.policies.policy import DROP, Policy
from tss.core.policies.rest import Rest


class OnePolicy(Protocol):
    """One entry of ``sampling.policies``. Without a rate in ``keep`` it drops."""

    @property
    def name(self) -> str: ...
    @property
    def keep(self) -> float | None: ...
    @property
    def shadow(self) -> bool: ...
    @property
    def statement(self) -> Statement: ...


class SamplingSettings(Protocol):
    """The ``sampling`` section of the settings."""

    @property
    def policies(self) -> Sequence[OnePolicy]: ...
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
    @property
    def has_default(self) -> bool: ...


def policies(sampling: SamplingSettings) -> list[Policy]:
    """The policies in their order: those with conditions of their own, then errors, latency and default."""
    chosen: list[Policy] = [
        Matching(each.name, DROP if each.keep is None else each.keep, each.statement, shadow=each.shadow)
        for each in sampling.policies
    ]
    if sampling.always_sample_errors:
        chosen.append(Errors(sampling.error_sample_rate))
    if sampling.sample_latency:
        chosen.append(Latency(sampling.latency_threshold_ms, sampling.latency_sample_rate))
    if sampling.has_default:
        chosen.append(Rest(sampling.default_sample_rate))
    return chosen
