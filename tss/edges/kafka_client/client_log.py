"""librdkafka's own log lines, into ours."""

from __future__ import annotations

import logging

import structlog

log = structlog.get_logger()

_TOLD_ELSEWHERE = ("FAIL ", "ERROR ")  # connections that fail, a line a try: `BrokerConnection` tells of them, once


class _Bridge(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        quiet = record.levelno < logging.WARNING or line.startswith(_TOLD_ELSEWHERE)
        (log.debug if quiet else log.warning)("librdkafka", line=line)


def logger() -> logging.Logger:
    """For the client's `logger` property. Outside the tree of loggers, so that no other handler hears it."""
    made = logging.Logger("librdkafka")  # noqa: LOG001  # as said
    made.addHandler(_Bridge())
    return made
