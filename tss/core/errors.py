"""The daemon's own errors, sorted by what the reader must do."""

from __future__ import annotations


class TssError(Exception):
    """Everything this package raises on purpose."""


class LawBroken(TssError):
    """Our bug: going on would break a law of the design, so the process stops with this sentence."""


class CannotConnect(TssError):
    """Yours to mend: a server refuses us for good (credentials, authorisation, fencing)."""


class WrongSetting(CannotConnect):
    """Yours to mend, in the settings: nothing was even tried with this value. Trying again is pointless (exit code 2)."""


class CannotCommit(TssError):
    """Nobody's fault: this commit did not go through; the next one covers it."""


class Away(TssError):
    """Nobody's fault: Redis does not answer, or not as it should. What needs it falls back; it is tried again by itself."""


class Lost(TssError):
    """Redis does not have any more what was put there: the partition's records have to be read from Kafka again."""


class Full(TssError):
    """A bound of what may stand in Redis is reached: what was to go there stays in memory."""


class StoppedAtOnce(TssError):
    """Yours: a second signal came while the daemon was stopping."""
