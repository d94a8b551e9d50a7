"""What ends up on stderr."""

import datetime as dt
import enum
import io
import json
import logging
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from tss.core.health import State
from tss.edges import logs

SECRET = 'hunter2/"ü'  # with what JSON, reprs and URLs write otherwise


class Stderr(io.StringIO):
    """Where the log goes, maybe a terminal."""

    name = "stderr"

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal
        self.pauses: Iterator[float] = iter(())  # before a write: seconds, one for each

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        time.sleep(next(self.pauses, 0.0))
        return super().write(text)

    def getvalue(self) -> str:
        assert logs.flush(30)  # another thread writes
        return super().getvalue()


@pytest.fixture(autouse=True)
def stderr(monkeypatch) -> Iterator[Stderr]:
    """In the place of the real one; and what configure does to the process is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.CHATTY}
    stderr = Stderr()
    monkeypatch.setattr(logs, "_clean", None)  # set by configure, and of no concern to other tests
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=stderr))  # pytest sets the real sys.stderr anew by itself
    yield stderr
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def configure(*, level: str = "info", json: bool = True, secrets: tuple[str, ...] = ()) -> None:
    logs.configure(level, json, "tail-sampling-selector", "pod-1", secrets=secrets)


def lines(stderr: Stderr) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in stderr.getvalue().splitlines()]


def shown(stderr: Stderr, **fields: object) -> dict[str, Any]:
    """How fields are shown."""
    structlog.get_logger().info("event", **fields)
    line = lines(stderr)[-1]
    return {key: value for key, value in line.items() if key not in {*logs._OWN, "event"}}


# -- the shape of a line


def test_a_line_is_one_object_of_json(stderr):
    configure()
    before = dt.datetime.now(dt.UTC)
    structlog.get_logger().warning("partitions assigned", partitions=[0, 1], topic="spans")
    (line,) = lines(stderr)
    at = line.pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", at)
    assert before <= dt.datetime.fromisoformat(at) <= dt.datetime.now(dt.UTC)
    assert line == {
        "level": "warning",
        "event": "partitions assigned",
        "service": "tail-sampling-selector",
        "instance": "pod-1",
        "partitions": [0, 1],
        "topic": "spans",
    }


def test_the_common_fields_come_first_and_in_order(stderr):
    configure()
    structlog.get_logger().info("x", a=1)
    assert list(lines(stderr)[0]) == ["timestamp", "level", "event", "service", "instance", "a"]


def test_fields_of_our_names_stand_beside_ours(stderr):
    configure()
    structlog.get_logger().info("kept", service="checkout", instance=7)
    (line,) = lines(stderr)
    assert (line["service"], line["service_"]) == ("tail-sampling-selector", "checkout")
    assert (line["instance"], line["instance_"]) == ("pod-1", 7)


def test_values_of_every_kind(stderr):
    configure()

    class Unshowable:
        def __str__(self) -> str:
            raise ZeroDivisionError

    class Number(enum.IntEnum):
        SEVEN = 7

    deep: Any = 1
    for _ in range(9):
        deep = [deep]
    cyclic: dict[str, object] = {}
    cyclic["self"] = cyclic
    assert shown(
        stderr,
        trace_id=bytes(range(16)),
        payload=bytearray(b"\xff" * 100),
        view=memoryview(b"ab"),
        state=State.DOWN,
        number=Number.SEVEN,
        path=Path("/var/lib/tss"),
        ratio=0.5,
        nothing=None,
        truth=True,
        infinite=float("inf"),
        error=KeyError("spans"),
        by_partition={0: b"\x01", ("a", "b"): {1}},
        unshowable=Unshowable(),
        umlaut="ü",
        deep=deep,
    ) == {
        "trace_id": "000102030405060708090a0b0c0d0e0f",
        "payload": "ff" * 32 + "... (100 bytes)",
        "view": "6162",
        "state": "down",
        "number": 7,
        "path": "/var/lib/tss",
        "ratio": 0.5,
        "nothing": None,
        "truth": True,
        "infinite": "inf",
        "error": "KeyError: 'spans'",
        "by_partition": {"0": "01", "('a', 'b')": [1]},
        "unshowable": "<Unshowable that cannot be shown: ZeroDivisionError>",
        "umlaut": "ü",
        "deep": [[[[["..."]]]]],
    }
    assert "..." in str(shown(stderr, cyclic=cyclic))


def test_a_very_long_text_is_cut(stderr):
    configure()
    assert shown(stderr, body="x" * 20000)["body"] == "x" * 16384 + "... (3616 more characters)"


def test_what_came_over_the_wire_does_not_steer_a_terminal(stderr):
    configure(json=False)
    structlog.get_logger().info("unreadable", detail="\x1b[2Jgone\r\x07")
    assert r"\x1b[2Jgone\x0d\x07" in stderr.getvalue()
    assert "\x1b" not in stderr.getvalue()


def test_an_exception_is_told_with_its_traceback_in_one_line(stderr):
    configure()
    try:
        raise ExceptionGroup("several", [ValueError("of them")])
    except ExceptionGroup:
        structlog.get_logger().exception("failed")
    (line,) = lines(stderr)
    assert line["level"] == "error"
    assert line["exception"].lstrip().startswith("+ Exception Group Traceback")
    assert "ValueError: of them" in line["exception"]


# -- for people


def test_for_people_a_line_is_plain_without_a_terminal(stderr):
    configure(json=False)
    structlog.get_logger().info("partitions assigned", partitions=[0, 1])
    line = stderr.getvalue()
    assert re.fullmatch(r"\S+Z \[info +\] partitions assigned +partitions=\[0, 1\]\n", line)


def test_for_people_a_line_has_colours_on_a_terminal(monkeypatch):
    terminal = Stderr(terminal=True)
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=terminal))
    configure(json=False)
    structlog.get_logger().info("partitions assigned")
    assert "\x1b[" in terminal.getvalue()


def test_json_has_no_colours_on_a_terminal(monkeypatch):
    terminal = Stderr(terminal=True)
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=terminal))
    configure()
    structlog.get_logger().info("partitions assigned")
    assert "\x1b[" not in terminal.getvalue()


def test_for_people_tracebacks_show_no_variables(stderr):
    configure(json=False)
    variable = "only in a variable"
    try:
        raise ValueError(len(variable))
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "Traceback (most recent call last)" in stderr.getvalue()
    assert "only in a variable" not in stderr.getvalue().replace('variable = "only in a variable"', "")


# -- levels


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
@pytest.mark.parametrize("get_logger", [structlog.get_logger, lambda: logging.getLogger("some.library")])
def test_only_the_level_and_above(stderr, level, told, get_logger):
    configure(level=level)
    log = get_logger()
    for each in ("debug", "info", "warning", "error"):
        getattr(log, each)("event")
    assert [line["level"] for line in lines(stderr)] == told


def test_what_somebody_asked_for_is_told_at_every_level(stderr):
    configure(level="error", secrets=("hunter2",))
    logs.always("state", url="hunter2", channels={"polled": "1 of 2"})
    (line,) = lines(stderr)
    assert (line["event"], line["level"]) == ("state", "info")
    assert (line["url"], line["channels"]) == ("***", {"polled": "1 of 2"})


def test_what_the_level_filters_out_is_not_looked_at(stderr):
    class Untouchable:
        def __str__(self) -> str:
            return pytest.fail("looked at")

        __repr__ = __str__

    configure()
    structlog.get_logger().debug("event", value=Untouchable())
    logging.getLogger("library").debug("event %s", Untouchable())
    assert stderr.getvalue() == ""


def test_configuring_anew_replaces_what_was(stderr):
    stderr.pauses = iter([0.1])  # a line of the one before is still on its way
    log = structlog.get_logger()
    configure(level="debug")
    log.debug("told")
    configure(level="error")
    log.warning("not told")
    logging.getLogger("library").error("told once")
    assert [line["event"] for line in lines(stderr)] == ["told", "told once"]


def test_an_unknown_level_is_refused():
    with pytest.raises(KeyError):
        configure(level="loud")


# -- libraries


def test_libraries_log_the_same_way(stderr):
    configure()
    try:
        raise OSError("gone")
    except OSError:
        logging.getLogger("librdkafka").exception("broker %s is down", "kafka-0")
    (line,) = lines(stderr)
    assert line["event"] == "broker kafka-0 is down"
    assert line["logger"] == "librdkafka"
    assert line["level"] == "error"
    assert line["service"] == "tail-sampling-selector"
    assert line.get("exception", "").endswith("OSError: gone")


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "hypercorn.error", "h2"])
def test_chatty_libraries_are_heard_from_warnings_up_even_at_debug(stderr, name):
    configure(level="debug")
    logging.getLogger(name).info("HTTP Request: POST http://collector:4318/v1/traces")
    logging.getLogger(name).warning("told")
    assert [line["event"] for line in lines(stderr)] == ["told"]


def test_a_librarys_wrong_arguments_are_told_as_they_are(stderr):
    configure()
    (bridge,) = [each for each in logging.getLogger().handlers if isinstance(each, logs._LibraryLines)]
    bridge.emit(logging.LogRecord("library", logging.WARNING, "file.py", 1, "%d of %d", ("one",), None))
    assert lines(stderr)[0]["event"] == "'%d of %d' ('one',)"


def test_warnings_are_logged(stderr):
    configure()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)  # pytest has its own way of catching them, which came between
        warnings.warn("deprecated", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "UserWarning: deprecated" in lines(stderr)[0]["event"]


# -- secrets


@pytest.mark.parametrize(
    "key",
    [
        "api_key", "apiKey", "DD-API-KEY", "datadog.api_key", "application_key", "applicationKey", "password",
        "sasl.password", "sasl_password", "passphrase", "token", "bearer_token", "Authorization", "authorization",
        "client_secret", "cookie", "ssl.key.password", "private_key", "aws_access_key",
    ],
)  # fmt: skip
def test_values_of_secret_keys_are_masked(stderr, key):
    configure()
    assert shown(stderr, **{key: "s3cr3t", "bytes": 1}) == {key: "***", "bytes": 1}
    assert shown(stderr, headers={key: ["s3cr3t"], "host": "x"}) == {"headers": {key: "***", "host": "x"}}


@pytest.mark.parametrize("key", ["key", "keys", "partition_key", "author", "path", "pass_number", "monkey"])
def test_keys_that_only_look_alike_are_shown(stderr, key):
    configure()
    assert shown(stderr, **{key: "checkout"}) == {key: "checkout"}


def test_that_a_secret_is_not_set_may_be_seen(stderr):
    configure()
    assert shown(stderr, api_key="", password=None, token=False) == {"api_key": "", "password": None, "token": False}


@pytest.mark.parametrize("json_lines", [True, False])
def test_a_known_secret_is_masked_wherever_it_turns_up(stderr, json_lines):
    configure(json=json_lines, secrets=(SECRET, ""))
    log = structlog.get_logger()
    log.info(f"event {SECRET}", text=f"a{SECRET}b", nested={"x": [SECRET]}, shown={SECRET: 1}, error=OSError(SECRET))
    log.info("in other forms", repr=repr([SECRET]), json=json.dumps(SECRET), url="http://x/?k=hunter2%2F%22%C3%BC")
    logging.getLogger("library").error("and %s", SECRET)
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("failed")
    assert "hunter2" not in stderr.getvalue().replace("raise ValueError(SECRET)", "")
    assert stderr.getvalue().count("***") == 10


def test_a_masked_line_is_json_still(stderr):
    configure(secrets=("info", "true", "1234"))
    assert shown(stderr, number=1234, truth=True, text="12345") == {"number": 1234, "truth": True, "text": "***5"}


def test_very_short_secrets_do_not_spoil_the_log(stderr):
    configure(secrets=("a", "ab"))
    assert shown(stderr, text="about a cab", password="ab") == {"text": "about a cab", "password": "***"}


def test_the_longer_of_two_secrets_is_masked_whole(stderr):
    configure(secrets=("secret", "secret-and-more"))
    assert shown(stderr, text="secret-and-more") == {"text": "***"}


def test_passwords_in_urls_are_masked(stderr):
    configure()
    assert shown(
        stderr, url="redis://user:hunter2@redis:6379/0", other="redis://:hunter2@redis", plain="http://host:80/a@b"
    ) == {"url": "redis://user:***@redis:6379/0", "other": "redis://:***@redis", "plain": "http://host:80/a@b"}


# -- a log that cannot be written


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch, stderr, error):
    def write(_text: str) -> int:
        raise error

    configure()
    monkeypatch.setattr(stderr, "write", write)
    structlog.get_logger().info("lost")
    logging.getLogger("library").error("lost too")
    assert logs.flush(30)
    assert logs.dropped() == 2
    counted: list[int] = []
    logs.count_dropped(counted.append)
    structlog.get_logger().info("lost as well")
    assert logs.flush(30)
    assert counted == [2, 1]


# -- what the interpreter itself would print


def test_an_error_that_no_thread_catches_is_logged(stderr):
    configure()
    before = threading.excepthook, sys.unraisablehook
    try:
        logs.hear_the_interpreter()
        thread = threading.Thread(target=lambda: 1 / 0, name="owner of a client")
        thread.start()
        thread.join()
    finally:
        threading.excepthook, sys.unraisablehook = before
    (line,) = lines(stderr)
    assert (line["event"], line["thread"], line["level"]) == ("a thread died", "owner of a client", "error")
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("for_machines", [True, False])
def test_a_line_made_before_its_time(stderr, for_machines):
    """For a forced end, which cannot log any more."""
    configure(json=for_machines, secrets=("hunter2",))
    before, after = logs.words("ended by force hunter2")
    structlog.get_logger().critical("ended by force hunter2")
    assert re.fullmatch(re.escape(before.decode()) + r"[-\dT:.]{26}Z" + re.escape(after.decode()), stderr.getvalue())
    assert b"ended by force ***" in after
