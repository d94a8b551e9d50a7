"""A pytest plugin that notes why tests failed. An assertion that bit is a proof; any other exception is a crash."""

from __future__ import annotations

import faulthandler
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tss.core.errors import LawBroken

# A deadline that a test set has passed (TooSlowError), or the program itself says which law would break.
PROOFS = (AssertionError, pytest.fail.Exception, trio.TooSlowError, LawBroken)

NOT_COLLECTED = "cannot be collected"  # the module with the mistake cannot be imported
STDERR_FD = os.dup(2)  # before pytest captures it
MOST_CRASHES = 10  # then no other test will prove it


class Judging:
    """Tells after each step what it knows, so that it is known of a run that hangs, too."""

    def __init__(self, into: Path) -> None:
        self._into = into
        self._limits: dict[str, float] = json.loads(into.with_suffix(".limits").read_text())
        self._found: list[tuple[str, str, bool]] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._tell(item.nodeid)
        # By a thread of C: what hangs may hold the interpreter.
        faulthandler.dump_traceback_later(self._limit_secs(item.nodeid), exit=True, file=STDERR_FD)
        yield
        faulthandler.cancel_dump_traceback_later()

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is not None and not call.excinfo.errisinstance((pytest.skip.Exception,)):
            leaf = _worst(call.excinfo.value)
            why = f"{type(leaf).__name__}: {leaf}".splitlines()[0][:200]
            proves = isinstance(leaf, PROOFS)
            self._found.append((item.nodeid, why, proves))
            if proves or len(self._found) >= MOST_CRASHES:
                item.session.shouldstop = "judged"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._found.append((report.nodeid, NOT_COLLECTED, False))

    def pytest_sessionfinish(self) -> None:
        self._tell("")

    def _tell(self, running: str) -> None:
        self._into.write_text(json.dumps({"failed": self._found, "running": running}))

    def _limit_secs(self, test: str) -> float:
        """Of a planted mistake whole files may be named."""
        return next(secs for name, secs in self._limits.items() if test.startswith(name))


def _worst(error: BaseException) -> BaseException:
    """The crash among several, if there is one: then the proof is in doubt."""
    while isinstance(error, BaseExceptionGroup):
        error = min(error.exceptions, key=lambda each: isinstance(each, PROOFS))
    return error


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Judging(Path(os.environ["MUTANTS_JUDGING"])))
