"""`sampling`: which traces are kept."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from attrs import Factory, frozen

from tss.core.collector import VERSIONS, Plan, Version, read
from tss.settings.keys import key
from tss.settings.kinds import otel
from tss.settings.kinds.numbers import WEEK_SECS, number, rate, truth
from tss.settings.kinds.policies import PolicySetting
from tss.settings.kinds.policies import policies as policy_list
from tss.settings.kinds.texts import choice
from tss.settings.kinds.units import MILLISECONDS

HIGHEST, FIRST = "highest", "first"
_UNLESS_POLICIES = "`true`; `false` if there are `policies` or `otelTailSampling`"


@frozen(kw_only=True)
class Sampling:
    """Which traces are kept. The random choice depends only on the trace id, so all replicas and all reruns decide the same.

    Write `policies`, or use the keys from `alwaysSampleErrors` on, which are three policies with fixed conditions:
    `errors`, `latency` and `default`. With `policies`, `errors` and `latency` are off unless they are set to true, and
    `default` is off while its rate is 0. They come after the `policies`. See [policies.md](policies.md). Or give a Collector's
    `tail_sampling` section as it stands, in `otelTailSampling`: see [otel-tail-sampling.md](otel-tail-sampling.md).
    """

    policies: tuple[PolicySetting, ...] = key(
        (),
        policy_list,
        "What is kept and what is dropped: each policy has a `name`, `keep` with a rate or `drop: true`, and `when` with a "
        "condition. A policy with `mode: shadow` is only counted. See [policies.md](policies.md).",
    )
    combine: str = key(
        HIGHEST,
        choice(HIGHEST, FIRST),
        "How several policies that match one trace are combined. `highest`: a `drop` wins, else the highest rate. `first`: the first "
        "policy that matches decides.",
    )
    otel_tail_sampling: Mapping[str, Any] | None = key(
        None,
        otel.section,
        "What stands below `processors.tail_sampling` in a Collector's file, unchanged: it gives the Collector's verdicts. `policies`, "
        "`combine` and the keys from `alwaysSampleErrors` on cannot be set beside it. See [otel-tail-sampling.md](otel-tail-sampling.md).",
        default_doc="none",
    )
    otel_version: str = key(
        VERSIONS[0],
        otel.version,
        "The version of the Collector whose verdicts are wanted. They differ in which policy is named: by 0.161 the first that samples a "
        "trace, by 0.165 the one with the lowest sampling threshold. Has an effect only with `otelTailSampling`.",
    )
    otel_gates: tuple[str, ...] = key(
        (),
        otel.gates,
        "The processor's feature gates that are on in the Collector. Has an effect only with `otelTailSampling`.",
    )
    always_sample_errors: bool = key(
        Factory(lambda self: not self.policies and self.otel_tail_sampling is None, takes_self=True),
        truth,
        "Detect traces with an error, and keep the share `errorSampleRate` of them.",
        default_doc=_UNLESS_POLICIES,
    )
    error_sample_rate: float = key(1, rate, "Share of the traces with an error that is kept.")
    sample_latency: bool = key(
        Factory(lambda self: not self.policies and self.otel_tail_sampling is None, takes_self=True),
        truth,
        "Detect slow traces, and keep the share `latencySampleRate` of them.",
        default_doc=_UNLESS_POLICIES,
    )
    latency_threshold_ms: float = key(
        5000, number(0, 1000 * WEEK_SECS, units=MILLISECONDS), "A trace is slow if it lasts this long or longer."
    )
    latency_sample_rate: float = key(0.1, rate, "Share of the slow traces that is kept.")
    default_sample_rate: float = key(0, rate, "Share of all other traces that is kept.")
    weights: bool = key(
        True,
        truth,
        "Write the sampling threshold `ot=th` into the trace state of each kept span, so that receivers can count how many "
        "spans it stands for (weights.md). With false, spans leave byte for byte as they came.",
    )

    @property
    def plan(self) -> Plan | None:
        """What a Collector's section says; None if there is none."""
        if self.otel_tail_sampling is None:
            return None
        return read(self.otel_tail_sampling, self.otel_gates, cast(Version, self.otel_version))

    @property
    def has_default(self) -> bool:
        """Whether the policy `default` is in force."""
        return (not self.policies and self.otel_tail_sampling is None) or self.default_sample_rate > 0

    @property
    def guides(self) -> dict[str, float]:
        """Of the three policies with fixed conditions those that are in force, with the rate of each."""
        rates = {}
        if self.always_sample_errors:
            rates["errors"] = self.error_sample_rate
        if self.sample_latency:
            rates["latency"] = self.latency_sample_rate
        if self.has_default:
            rates["default"] = self.default_sample_rate
        return rates

    @property
    def in_force(self) -> dict[str, float | str]:
        """All policies by name: the rate of each, or `drop` or `shadow`; of a Collector's section the type of each."""
        plan = self.plan
        types = {} if plan is None else {policy.name: policy.type for policy in plan.section.policies}
        return types | {each.name: _says(each) for each in self.policies} | self.guides

    @property
    def keeping(self) -> Iterator[str]:
        """The names of the policies that can keep a trace."""
        plan = self.plan
        if plan is not None:
            yield from (policy.name for policy in plan.section.policies if policy.type != "drop")
        yield from (each.name for each in self.policies if each.keep is not None and not each.shadow)
        yield from self.guides


def _says(policy: PolicySetting) -> float | str:
    if policy.shadow:
        return "shadow"
    return "drop" if policy.keep is None else policy.keep
