"""Policies (one file each), how their rates combine to a decision, and how the settings become policies."""

from tss.core.policies.combine import Sampler
from tss.core.policies.from_settings import policies

__all__ = ["Sampler", "policies"]
