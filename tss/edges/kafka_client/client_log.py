"""librdkafka's log lines, passed on to the daemon's log."""

from __future__ import annotations

import logging

import structlog

log = structlog.get_logger()

_AT_DEBUG = ("FAIL ", "ERROR ")  # a line for each try to connect; `BrokerConnection` reports failures once


class _ClientLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        quiet = record.levelno < logging.WARNING or line.startswith(_AT_DEBUG)
        (log.debug if quiet else log.warning)("librdkafka", line=line)


def logger() -> logging.Logger:
    """For the client's `logger` property. It is not in the tree of loggers, so no other handler gets its lines."""
    made = logging.Logger("librdkafka")  # noqa: LOG001  # see above
    made.addHandler(_ClientLines())
    return made
