"""`sampling`: each policy has a name of its own, and a Collector's section stands alone."""

from collections.abc import Iterator

from tss.settings.checks.conflict import Conflict
from tss.settings.errors import shown
from tss.settings.sections.sampling import Sampling

_SWITCHES = {"errors": "alwaysSampleErrors", "latency": "sampleLatency", "default": "defaultSampleRate"}


def conflicts(sampling: Sampling) -> Iterator[Conflict]:
    yield from _beside_section(sampling)
    for place, policy in enumerate(sampling.policies):
        if policy.name in sampling.guides:
            key = f"sampling.{_SWITCHES[policy.name]}"
            allowed = f"another name: {key} makes a policy with this one"
            hint = f"or leave out {key}"
            yield Conflict((f"sampling.policies[{place}].name", key), shown(policy.name), allowed, hint)


def _beside_section(sampling: Sampling) -> Iterator[Conflict]:
    """A Collector's section has all policies, so there can be no others."""
    if sampling.otel_tail_sampling is None:
        return
    others = ["policies"] if sampling.policies else []
    others += [_SWITCHES[name] for name in sampling.guides]
    for other in others:
        hint = f"remove sampling.{other}, or import the section with `tss import otel` and remove sampling.otelTailSampling"
        keys = (f"sampling.{other}", "sampling.otelTailSampling")
        yield Conflict(keys, "policies beside a Collector's section", "only one of the two", hint)
