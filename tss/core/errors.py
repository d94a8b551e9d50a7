"""The daemon's own errors, sorted by what the reader must do."""

from __future__ import annotations


class TssError(Exception):
    """Everything this package raises on purpose."""


class LawBroken(TssError):
    """Our bug: going on would break a law of the design, so the process stops with this sentence."""


class CannotConnect(TssError):
    """Yours to mend: a server refuses us for good (credentials, authorisation, fencing)."""


class CannotCommit(TssError):
    """Nobody's fault: this commit did not go through; the next one covers it."""
