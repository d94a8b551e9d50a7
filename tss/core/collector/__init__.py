"""A Collector's `tail_sampling` section as it stands, with the Collector's own verdicts.

`read` gives a `Plan`, or raises `WrongSection`. What differs from the Collector is in docs/otel-tail-sampling.md.
"""

from tss.core.collector.plan import VERSIONS, Plan, Version, read
from tss.core.collector.wrong import Note, Wrong, WrongSection

__all__ = ["VERSIONS", "Note", "Plan", "Version", "Wrong", "WrongSection", "read"]
