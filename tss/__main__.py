"""Arguments to settings to ``trio.run``; the only exit code: 0 after an orderly stop, 1 for a failure, 2 for settings."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from tss import __version__
from tss.core.errors import LawBroken, TssError, WrongSetting
from tss.settings import (
    CONFIG_VARIABLE,
    Settings,
    SettingsError,
    is_too_much,
    load,
    memory_limit_bytes,
    render,
    secrets,
    without_effect,
)

STOPPED, FAILED, WRONG_SETTINGS = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon, check its settings, or speak to a running one; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["force"]:
        from tss import force_cli  # noqa: PLC0415  # the daemon has no use for it

        return force_cli.main(given[1:])
    if given[:1] == ["size"]:
        from tss import sizing  # noqa: PLC0415  # as above

        return sizing.main(given[1:])
    options = _parse(given)
    try:
        settings = load(options.config or os.environ.get(CONFIG_VARIABLE), os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return WRONG_SETTINGS
    if options.command == "check":
        print(render(settings), end="")
        if without_effect(settings):
            print(f"without effect, as things are: {', '.join(without_effect(settings))}", file=sys.stderr)
        return STOPPED
    return _run(settings)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tss",
        description="Tail Sampling Selector",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["run", "check", "force", "size"],
        default="run",
        help="check only validates; force: rules that keep or drop for a while; size: pods, memory and retention for your "
        "traffic (both have a --help of their own)",
    )
    parser.add_argument("--config", metavar="FILE", help=f"settings in YAML (default: ${CONFIG_VARIABLE})")
    parser.add_argument("--version", action="version", version=f"tss {__version__}")
    options = parser.parse_args(arguments)
    if options.command in ("force", "size"):
        parser.error(f"{options.command} comes first: python -m tss {options.command} --help")
    return options


def _run(settings: Settings) -> int:
    # Only a run needs the libraries below; `check` and --help answer without them.
    import structlog  # noqa: PLC0415
    import trio  # noqa: PLC0415

    from tss.core.otlp import SCANNER  # noqa: PLC0415
    from tss.daemon import StoppedAtOnce, supervise  # noqa: PLC0415
    from tss.edges import heap, logs  # noqa: PLC0415

    seen = settings.observability
    logs.configure(
        seen.log_level, seen.json_logging, seen.service_name, settings.app.instance_id, secrets=secrets(settings)
    )
    log = structlog.get_logger()
    _collect_garbage_rarely()
    heap.share_one_arena()
    kafka = settings.kafka
    log.info("starting", version=__version__, scanner=SCANNER, topic=kafka.input_topic, group=kafka.consumer_group)
    if SCANNER != "compiled":
        log.warning("the compiled modules are missing, so this is several times slower; install with a C compiler")
    if without_effect(settings):
        log.warning("these settings have no effect, as things are", keys=without_effect(settings))
    if is_too_much(settings.app.max_buffer_bytes, memory_limit_bytes()):
        log.warning(
            "app.maxBufferBytes is more than the memory limit leaves, the kernel will kill this process when it is full;"
            " leave it out, or raise the limit",
            max_buffer_bytes=settings.app.max_buffer_bytes,
            memory_limit_bytes=memory_limit_bytes(),
        )
    try:
        trio.run(supervise, settings, _end_in)
    except BaseExceptionGroup as group:
        error = _first(group)
        if isinstance(error, StoppedAtOnce):
            log.warning("stopped at once by a second signal; Kafka still has what was not finished")
        else:
            expected = isinstance(error, TssError | OSError) and not isinstance(error, LawBroken)
            log.critical(str(error) or repr(error), exc_info=None if expected else error)
        return WRONG_SETTINGS if isinstance(error, WrongSetting) else FAILED
    log.info("stopped")
    return STOPPED


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that began it: the first leaf of the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end_in(secs: float) -> None:
    """Law 9, for what no cancel scope reaches: an event loop or a client library that hangs."""

    def end() -> None:
        print(f"not stopped within {secs:g} s; ended by force, Kafka still has what was not finished", file=sys.stderr)
        _end(FAILED)

    timer = threading.Timer(secs, end)
    timer.daemon = True
    timer.start()


def _collect_garbage_rarely() -> None:
    """Open traces are long-lived, and what of them hangs together in circles is taken apart when they end: looking
    through millions of them again and again would find nothing, and stop everything meanwhile.

    What was loaded at the start is never looked at again. The youngest are looked at after 50,000 more were made than
    freed; a full collection waits besides for a quarter of new objects, which is the interpreter's own rule.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _end(code: int) -> NoReturn:
    """Leave without the destructors of client libraries, which may wait for a broker that is away."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main())
