"""Durations that must not exceed one another."""

from collections.abc import Iterator
from itertools import pairwise

from tss.settings.checks.conflict import Conflict
from tss.settings.model import Settings


def conflicts(settings: Settings) -> Iterator[Conflict]:
    app = settings.app
    rising = (
        ("app.rootQuietSecs", app.root_quiet_secs),
        ("app.inactivityTimeoutSecs", app.inactivity_timeout_secs),
        ("app.maxTraceDurationSecs", app.max_trace_duration_secs),
    )
    force = settings.force_sampling
    durations = (
        ("forceSampling.defaultDurationSecs", force.default_duration_secs),
        ("forceSampling.maxDurationSecs", force.max_duration_secs),
    )
    for (lower, value), (upper, limit) in (*pairwise(rising), durations):
        if value > limit:
            yield Conflict((lower, upper), f"{value:g}", f"at most {upper}, which is {limit:g}")
