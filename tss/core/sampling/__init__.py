"""Policies (one file each), how their rates combine to a decision, and how the settings become policies."""

from tss.core.sampling.combine import Sampler
from tss.core.sampling.from_settings import policies

__all__ = ["Sampler", "policies"]
