"""Policies (one file each), and how the settings become policies. `core/combining.py` combines their votes."""

from tss.core.policies.from_settings import policies
from tss.core.policies.policy import ABSTAIN, DROP, FAILED, Policy

__all__ = ["ABSTAIN", "DROP", "FAILED", "Policy", "policies"]
