"""The daemon's log: one line on stderr for each event, with secrets masked."""

from __future__ import annotations

import enum
import logging
import math
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from json import dumps
from typing import Any, TextIO
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from tss.edges.log_lines import Lines

MASK = "***"
SHORTEST_SECRET = 4  # a shorter secret is part of many words, and masking them would reveal it
SHORT_BYTES = 32  # a trace id (16) and a SHA-256 digest are shown whole
LONG_TEXT = 16 * 1024  # container runtimes cut lines there
DEEPEST = 5
HANDOVER_SECS = 1.0  # for the lines of an earlier configuration; a stderr that hangs must not delay the next one
# At INFO these log each request and connection; at DEBUG much more.
CHATTY = ("asyncio", "h2", "hpack", "httpcore", "httpx", "hypercorn", "quart")

_SECRET_KEY = re.compile(
    r"(api|app|application|access|private|ssl|account)[-_. ]?key|passw|passphrase|token|authori[sz]ation|secret"
    r"|credential|cookie",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")  # redis://user:password@host
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_TIME = "0000-00-00T00:00:00.000000Z"  # as long as a line's time
_OWN = ("timestamp", "level", "service", "instance")

_lines: Lines | None = None
_clean: _Clean | None = None  # of the log, once it is configured


def configure(level: str, json: bool, service_name: str, instance_id: str, *, secrets: Iterable[str] = ()) -> None:
    """Send all log lines, ours and the libraries', to stderr, as JSON or for people.

    ``level``: debug, info, warning or error. ``secrets`` are masked wherever they occur.
    """
    global _lines, _clean  # noqa: PLW0603  # there is one stderr, and one log
    number = logging.getLevelNamesMapping()[level.upper()]
    if _lines is not None:
        _lines.flush(HANDOVER_SECS)  # else lines of the next thread may be written before its own
        _lines.close()
    lines = _lines = Lines(sys.stderr)
    _clean = _Clean(secrets)
    chain: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _clean,
        *(_for_machines(service_name, instance_id) if json else _for_people(lines.stream)),
    ]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(number),  # a line below this level is not even formatted
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,  # a filtered line costs 2 us instead of 0.7, but tests can capture lines
    )
    lines.tell = _tell_dropped
    _bridge(number, chain, lines)


def set_level(level: str) -> None:
    """Log from this level on: debug, info, warning or error. For the running daemon, after `configure`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))
    _set_library_level(number)


def flush(secs: float) -> bool:
    """Wait up to ``secs`` until every line is written; returns whether all are. Stderr may hang for ever."""
    return _lines is None or _lines.flush(secs)


def dropped() -> int:
    """How many lines stderr did not take."""
    return 0 if _lines is None else _lines.dropped


def count_dropped(count: Callable[[int], None]) -> None:
    """Call ``count`` with the number of lines dropped so far, and then with each further number."""
    if _lines is not None:
        count(_lines.dropped)
        _lines.count = count


def always(event: str, **fields: object) -> None:
    """Log a line at level info even if the level is higher: an operator asked for it."""
    with suppress(structlog.DropEvent):
        structlog.get_logger().bind()._proxy_to_logger("info", event, **fields)  # noqa: SLF001  # meant for subclasses


def words(event: str) -> tuple[bytes, bytes]:
    """A critical line with this event, as the bytes before its time and after it. For a thread that cannot log any more."""
    clean, write = structlog.get_config()["processors"][-2:]
    made: Any = clean(None, "critical", {"event": event, "level": "critical"})
    before, _, after = str(write(None, "critical", made | {"timestamp": _TIME})).partition(_TIME)
    return before.encode(), f"{after}\n".encode()


def hear_the_interpreter() -> None:
    """Log uncaught errors of threads, and errors in destructors. Python itself would print them to stderr, and could hang
    there."""
    log = structlog.get_logger()

    def in_thread(args: threading.ExceptHookArgs) -> None:
        error = args.exc_value or args.exc_type()
        log.error("a thread died", thread=args.thread.name if args.thread else "", exc_info=error)

    def in_destructor(args: sys.UnraisableHookArgs) -> None:
        log.error(
            "an error in a destructor, which no caller can catch",
            where=args.err_msg or "",
            exc_info=args.exc_value or True,
        )

    threading.excepthook = in_thread
    sys.unraisablehook = in_destructor


def _tell_dropped(lines: int) -> None:
    structlog.get_logger().warning("log lines were dropped: stderr did not take them in time", lines=lines)


def _bridge(level: int, chain: Iterable[Processor], lines: Lines) -> None:
    """Send the log lines of ``logging`` and ``warnings`` through the same processors."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _LibraryLines)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryLines(chain, lines))
    _set_library_level(level)
    logging.captureWarnings(True)


def _set_library_level(level: int) -> None:
    logging.getLogger().setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class _LibraryLines(logging.Handler):
    """Passes the records of ``logging`` to structlog's processors."""

    def __init__(self, chain: Iterable[Processor], lines: Lines) -> None:
        super().__init__()
        self._chain = tuple(chain)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's wrong arguments must not fail here
            text = f"{record.msg!r} {record.args!r}"
        level = record.levelname.lower()
        event: Any = {"event": text, "logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        for processor in self._chain:
            event = processor(None, level, event)
        self._lines.write(event)


class _Clean:
    """Makes every value plain (text, number, boolean, null, lists and mappings of these) and masks secrets in it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        return {self._text(str(key)): self._value(str(key), value) for key, value in event.items()}

    def _value(self, key: str, value: object, depth: int = 0) -> object:
        if _SECRET_KEY.search(key) and not (value is None or isinstance(value, bool) or value == ""):
            return MASK
        match value:
            case Mapping() | list() | tuple() | set() | frozenset() if depth == DEEPEST:
                return "..."
            case Mapping():
                return {self._text(str(name)): self._value(str(name), each, depth + 1) for name, each in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._value(key, each, depth + 1) for each in value]
            case str():
                return self._text(value)
            case _:
                plain = _plain(value)
                return self._text(plain) if isinstance(plain, str) else plain

    def masked(self, text: str) -> str:
        """The text with secrets masked, and passwords in URLs."""
        if self._secret:
            text = self._secret.sub(MASK, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
        return text

    def _text(self, text: str) -> str:
        text = self.masked(text)
        if not text.isprintable():
            text = text.translate(_CONTROLS)  # text from the network must not control a terminal
        if len(text) > LONG_TEXT:
            text = f"{text[:LONG_TEXT]}... ({len(text) - LONG_TEXT} more characters)"
        return text


def masked(text: str) -> str:
    """A text for a page, with the log's secrets masked: a server's error may repeat the credentials."""
    return text if _clean is None else _clean.masked(text)


def _forms(secret: str) -> set[str]:
    """The forms of a secret: plain, in a repr, in JSON and in a URL."""
    return {secret, repr(secret)[1:-1], dumps(secret)[1:-1], dumps(secret, ensure_ascii=False)[1:-1], quote(secret, "")}


def _plain(value: object) -> str | float | bool | None:
    """A value that is no text, list or mapping, as JSON can show it."""
    match value:
        case None | bool():
            return value
        case enum.Enum():
            return _plain(value.value)
        case int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | bytearray() | memoryview():
            whole = len(value) <= SHORT_BYTES
            return bytes(value).hex() if whole else f"{bytes(value[:SHORT_BYTES]).hex()}... ({len(value)} bytes)"
        case _:
            return _shown(value)


def _shown(value: object) -> str:
    try:
        return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    except Exception as error:  # noqa: BLE001 - a repr that raises must not fail the caller
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _for_machines(service: str, instance: str) -> list[Processor]:
    def line(_logger: WrappedLogger, _name: str, event: MutableMapping[str, Any]) -> str:
        ours = {
            "timestamp": event.pop("timestamp"),
            "level": event.pop("level"),
            "event": event.pop("event", ""),
            "service": service,
            "instance": instance,
        }
        # A field with one of our names (a trace's service, say) is shown beside ours, with another name.
        return dumps(
            ours | {f"{key}_" if key in _OWN else key: value for key, value in event.items()}, ensure_ascii=False
        )

    return [line]


def _for_people(stream: TextIO) -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False)]
