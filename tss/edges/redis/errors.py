"""Redis's errors, translated once: to a metric label, a log line with what to check, and whether the link closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from redis import exceptions
from redis.sentinel import MasterNotFoundError


@attrs.frozen
class CallFailure:
    """Why a call failed."""

    label: str  # of the metric
    headline: str  # the beginning of the log line and of the detail in /health
    check: str  # what an operator should check
    closes: bool = True  # whether other calls would fail too: then none is tried until a probe succeeds


TIMEOUT = CallFailure(
    "timeout", "Redis connection timeout", "check redis.url, redis.password, the network and how busy Redis is"
)
CONNECT = CallFailure("connect", "Redis cannot be reached", "check redis.url and that Redis runs")
TLS = CallFailure(
    "tls", "Redis cannot be reached", "check redis.sslCaLocation, redis.sslCertificateLocation and rediss://"
)
SENTINEL = CallFailure("connect", "Redis cannot be reached", "check redis.sentinelMaster, redis.url and the Sentinels")
AUTH = CallFailure("auth", "Redis refuses us", "check redis.username, redis.password and the user's rights (ACL)")
LOADING = CallFailure("loading", "Redis is not ready", "it is loading its data from disk: wait")
READONLY = CallFailure(
    "readonly", "Redis takes no writes", "check that redis.url is the address of the master, and that its disk has room"
)
MOVED = CallFailure("moved", "Redis Cluster does not answer", "check redis.cluster, and the Cluster's state")
# It does not close the link: reading and removing still work, and removing makes room.
OOM = CallFailure("oom", "Redis is full", "check its maxmemory against docs/redis.md", closes=False)
STRANGE = CallFailure(
    "unreadable",
    "Redis gives an answer that cannot be read",
    "check that redis.url, or the proxy in front of it, is a Redis (7 or newer)",
)
OTHER = CallFailure("other", "Redis answers with an error", "check its version (7 or newer) and its log", closes=False)

# Raised by redis-py, and by our code that reads its answers, where an answer does not have the form of its command.
UNREADABLE = (TypeError, LookupError, AttributeError, ValueError, ArithmeticError, RecursionError)

# The first match counts, so subclasses come before their bases.
_BY_CLASS: Sequence[tuple[tuple[type[BaseException], ...], CallFailure]] = (
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
# Errors of scripts, and some of the server, are plain ResponseErrors: one of their first words says which error it is.
_BY_WORD: Mapping[str, CallFailure] = {
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


def reason_of(error: BaseException) -> CallFailure:
    """The reason behind an exception of redis-py."""
    text = str(error)
    for kinds, reason in _BY_CLASS:
        if isinstance(error, kinds):
            # redis-py wraps the error where no node of a Cluster answers, or where TLS fails.
            cause = error.__cause__
            if reason is MOVED and isinstance(cause, exceptions.ConnectionError | exceptions.TimeoutError):
                return reason_of(cause)
            return TLS if reason is CONNECT and ("SSL" in text or "certificate" in text) else reason
    return next((reason for word, reason in _BY_WORD.items() if word in text.split()[:4]), OTHER)
