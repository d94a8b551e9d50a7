"""The headers of a message, which may have names that are not UTF-8."""

from __future__ import annotations

from operator import methodcaller
from typing import cast

from confluent_kafka import Message

from tss.core.headers import UNREADABLE_HEADERS, Headers

MAX_NAME_BYTES = 100  # of a header's name that are shown

# For a bad name the client returns a list and sets an error, which CPython turns into a SystemError. But CPython 3.11 and
# newer specialise a method call that runs often, and the specialised call skips this check: the list has a NULL in it,
# and reading it ends the process. A call through `methodcaller` is always checked.
_HEADERS = methodcaller("headers")


def headers_of(message: Message) -> Headers:
    """The record's headers, or the marker `UNREADABLE_HEADERS` with the reason. Call it only once for each message.

    confluent-kafka decodes names as UTF-8, and raises SystemError where one is not. A second call then returns a list
    with NULL in place of that name, and reading this list ends the process (seen with 2.16).
    """
    try:
        found = _HEADERS(message)
    except Exception as error:  # noqa: BLE001  # whatever the client raises for foreign bytes, reading goes on
        return ((UNREADABLE_HEADERS, _reason(error).encode()),)
    return tuple(cast(list[tuple[str, bytes | None]], found or []))


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:  # each further name adds a SystemError to the chain
        if isinstance(cause, UnicodeDecodeError):
            return f"a header's name is not UTF-8: {cause.object[:MAX_NAME_BYTES]!r}"
        cause = cause.__cause__ or cause.__context__
    return repr(error)
