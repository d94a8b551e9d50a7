"""Arguments to settings to ``trio.run``; the only exit code: 0 after an orderly stop, 1 for a failure, 2 for settings."""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from tss import __version__
from tss.settings import CONFIG_VARIABLE, Settings, SettingsError, load, render

OK, FAILED, WRONG_SETTINGS = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon, or check its settings; returns the exit code."""
    options = _parse(arguments)
    try:
        settings = load(options.config or os.environ.get(CONFIG_VARIABLE), os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return WRONG_SETTINGS
    if options.command == "check":
        print(render(settings), end="")
        return OK
    return _run(settings)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tss", description="Tail Sampling Selector")
    parser.add_argument("command", nargs="?", choices=["run", "check"], default="run", help="check only validates")
    parser.add_argument("--config", metavar="FILE", help=f"settings in YAML (default: ${CONFIG_VARIABLE})")
    parser.add_argument("--version", action="version", version=f"tss {__version__}")
    return parser.parse_args(arguments)


def _run(settings: Settings) -> int:
    # Only the run needs the libraries below; `check` and --help answer without them.
    import structlog
    import trio

    from tss.daemon import StoppedAtOnce, supervise
    from tss.edges import joining, logs

    logs.configure(settings)
    log = structlog.get_logger()
    _tune_garbage_collection()
    code = OK
    try:
        trio.run(supervise, settings, joining.joined(settings, random.Random()), _watchdog(settings))
    except BaseExceptionGroup as group:
        error = _first(group)
        code = FAILED
        if isinstance(error, StoppedAtOnce):
            log.warning("stopped at once by a second signal; Kafka still has what was not finished")
        else:
            log.critical(str(error) or repr(error), exc_info=error if _is_bug(error) else None)
    else:
        log.info("stopped")
    return code


if __name__ == "__main__":
    _end(main())
