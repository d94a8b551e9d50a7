"""Redis's errors, sorted once: what each means for the call, for the link, and what an operator is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from redis import exceptions
from redis.sentinel import MasterNotFoundError


@attrs.frozen
class Reason:
    """Why Redis did not do what it was asked."""

    label: str  # of the metric
    headline: str  # how the log line and the detail in /health begin
    check: str  # what an operator should look at
    closes: bool = True  # whether other calls have no better chance: then none is tried before a probe went through


TIMEOUT = Reason(
    "timeout", "Redis connection timeout", "check redis.url, redis.password, the network and how busy Redis is"
)
CONNECT = Reason("connect", "Redis cannot be reached", "check redis.url and that Redis runs")
TLS = Reason("tls", "Redis cannot be reached", "check redis.sslCaLocation, redis.sslCertificateLocation and rediss://")
SENTINEL = Reason("connect", "Redis cannot be reached", "check redis.sentinelMaster, redis.url and the Sentinels")
AUTH = Reason("auth", "Redis refuses us", "check redis.username, redis.password and the user's rights (ACL)")
LOADING = Reason("loading", "Redis is not ready", "it reads its data from the disk")
READONLY = Reason("readonly", "Redis takes no writes", "check that redis.url is the master's, and its disk")
MOVED = Reason("moved", "Redis Cluster does not answer", "check redis.cluster, and the Cluster's state")
# What is read and removed still works, and removing is what makes room.
OOM = Reason("oom", "Redis is full", "check its maxmemory, and docs/redis.md for what it has to hold", closes=False)
STRANGE = Reason(
    "unreadable",
    "Redis answers what cannot be read",
    "check that redis.url, or who stands before it, is a Redis (7 or newer)",
)
OTHER = Reason("other", "Redis answers with an error", "check its version (7 or newer) and its log", closes=False)

# What redis-py, and who reads the answers that it gives, raise where an answer is of another form than the command's.
UNREADABLE = (TypeError, LookupError, AttributeError, ValueError, ArithmeticError, RecursionError)

# The first that fits, subclasses before their bases.
_BY_CLASS: Sequence[tuple[tuple[type[BaseException], ...], Reason]] = (
    ((MasterNotFoundError,), SENTINEL),
    (
        (
            exceptions.AuthenticationError,
            exceptions.AuthorizationError,
            exceptions.AuthenticationWrongNumberOfArgsError,
            exceptions.NoPermissionError,
        ),
        AUTH,
    ),
    ((exceptions.BusyLoadingError,), LOADING),
    ((exceptions.OutOfMemoryError,), OOM),
    ((exceptions.ReadOnlyError,), READONLY),
    (
        (
            exceptions.AskError,
            exceptions.TryAgainError,
            exceptions.ClusterError,
            exceptions.RedisClusterException,
        ),
        MOVED,
    ),
    ((exceptions.TimeoutError, TimeoutError), TIMEOUT),
    ((exceptions.ConnectionError, OSError), CONNECT),
    (UNREADABLE, STRANGE),
)
# A script's error, and some of the server's, come as plain ResponseError: their first word says which it is.
_BY_WORD: Mapping[str, Reason] = {
    "OOM": OOM,
    "NOAUTH": AUTH,
    "WRONGPASS": AUTH,
    "NOPERM": AUTH,
    "LOADING": LOADING,
    "MASTERDOWN": LOADING,
    "READONLY": READONLY,
    "MISCONF": READONLY,  # it could not write its snapshot
    "NOREPLICAS": READONLY,
    "CLUSTERDOWN": MOVED,
    "MOVED": MOVED,
}


def reason_of(error: BaseException) -> Reason:
    """Which of them it is."""
    text = str(error)
    for kinds, reason in _BY_CLASS:
        if isinstance(error, kinds):
            # A Cluster that nobody answers for, and a TLS that fails, come wrapped.
            cause = error.__cause__
            if reason is MOVED and isinstance(cause, exceptions.ConnectionError | exceptions.TimeoutError):
                return reason_of(cause)
            return TLS if reason is CONNECT and ("SSL" in text or "certificate" in text) else reason
    return next((reason for word, reason in _BY_WORD.items() if word in text.split()[:4]), OTHER)
