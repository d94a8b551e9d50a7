"""`sampling`: each policy has a name of its own."""

from collections.abc import Iterator

from tss.settings.checks.conflict import Conflict
from tss.settings.errors import shown
from tss.settings.sections.sampling import Sampling

_SWITCHES = {"errors": "alwaysSampleErrors", "latency": "sampleLatency", "default": "defaultSampleRate"}


def conflicts(sampling: Sampling) -> Iterator[Conflict]:
    for place, policy in enumerate(sampling.policies):
        if policy.name in sampling.guides:
            key = f"sampling.{_SWITCHES[policy.name]}"
            allowed = f"another name: {key} makes a policy with this one"
            hint = f"or leave out {key}"
            yield Conflict((f"sampling.policies[{place}].name", key), shown(policy.name), allowed, hint)
