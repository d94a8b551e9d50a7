"""A pytest plugin that notes which functions of `tss.core`, `tss.state`, `tss.tasks` and `tss.edges` each test calls, and how long it takes.

By calls and not by lines, since a trace function that declines a frame costs little; and by `sys.settrace`, since Python
3.11 has no `sys.monitoring`. What runs in other processes is not seen.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest

WATCHED = tuple(f"{os.sep}tss{os.sep}{name}{os.sep}" for name in ("core", "state", "tasks", "edges"))


class Covering:
    """What has been called since the test began."""

    def __init__(self, into: Path) -> None:
        self._into = into
        self._called: set[CodeType] = set()
        self._watched: dict[CodeType, bool] = {}
        self._tests: dict[str, tuple[float, list[str]]] = {}

    def _hear(self, frame: FrameType, _event: str, _argument: object) -> None:
        code = frame.f_code
        watched = self._watched.get(code)
        if watched is None:
            watched = self._watched[code] = any(folder in code.co_filename for folder in WATCHED)
        if watched:
            self._called.add(code)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._called.clear()
        before, began = sys.gettrace(), time.monotonic()
        threading.settrace(self._hear)
        sys.settrace(self._hear)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(before)
        called = sorted({_name(code) for code in self._called})
        if called:
            self._tests[item.nodeid] = (round(time.monotonic() - began, 3), called)

    def pytest_sessionfinish(self) -> None:
        self._into.write_text(json.dumps(self._tests))


def _name(code: CodeType) -> str:
    path = "tss" + code.co_filename.rpartition(f"{os.sep}tss")[2]
    return f"{path}:{code.co_qualname.replace('.<locals>', '')}"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Covering(Path(os.environ["MUTANTS_COVERING"])))
