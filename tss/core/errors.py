"""The daemon's own errors, by what the reader has to do."""

from __future__ import annotations


class TssError(Exception):
    """The base of all errors that this package raises on purpose."""


class LawBroken(TssError):
    """A bug of ours: going on would break a law of the design (ARCHITECTURE.md), so the process stops with this message."""


class CannotConnect(TssError):
    """The operator has to act: a server refuses the daemon permanently (credentials, authorisation, fencing)."""


class WrongSetting(CannotConnect):
    """The operator has to change a setting: no attempt was made with this value. A restart cannot help (exit code 2)."""


class CannotCommit(TssError):
    """Nobody has to act: this commit failed, and the next one includes it."""


class Away(TssError):
    """Nobody has to act: Redis does not answer, or answers wrongly. The daemon works without it and retries automatically."""


class Lost(TssError):
    """Redis has lost parked spans: the partition's records have to be read from Kafka again."""


class Full(TssError):
    """Redis holds as much as it may: further spans stay in memory."""


class StoppedAtOnce(TssError):
    """The operator sent a second signal while the daemon was stopping."""
