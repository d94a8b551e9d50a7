"""`tss run`: the daemon, from its settings to `trio.run` and the exit code."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from typing import NoReturn

from tss import __version__
from tss.commands import DONE, FAILED, WRONG_USE
from tss.commands.config import add_config, path_of, settings_of
from tss.core.errors import LawBroken, StoppedAtOnce, TssError, WrongSetting
from tss.settings import Settings, SettingsError, is_too_much, memory_limit_bytes, secrets, without_effect

AT_ONCE_SECS = 1.0  # after a second signal: leaving the group takes some ms, unless the broker is what hangs
TOLD_BY_ITS_MESSAGE = 2  # from this gravity on the message is enough; graver errors are logged with their traceback

DESCRIPTION = """\
Run the daemon: read spans from Kafka, decide once for each trace, send what is kept. SIGTERM stops it in order.
"""
EPILOG = """\
example:
  %(prog)s --config tss.yaml

exit codes: 0 after an orderly stop; 1 for a failure (start it again, nothing is lost); 2 for settings that cannot work
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_config(parser)


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run until stopped. Returns only if the settings are wrong; else it ends the process with the exit code."""
    try:
        settings = settings_of(options, environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    return _run(settings, path_of(options, environ))


def in_force(settings: Settings, path: str | None) -> Mapping[str, object]:
    """The fields of the first log line: where the settings come from, and what they make of this replica."""
    return {
        "file": path or "none, only the environment",
        "topic": settings.kafka.input_topic,
        "group": settings.kafka.consumer_group,
        "policies": settings.sampling.in_force,  # force rules have no rate
        "destinations": [f"{each.name} ({each.type})" for each in settings.effective_exporters],
        "memory_limit_bytes": memory_limit_bytes(),
        "max_buffer_bytes": settings.app.max_buffer_bytes,
    }


def _run(settings: Settings, path: str | None) -> NoReturn:
    # Imported here, because --help and the other commands need none of these libraries.
    import structlog  # noqa: PLC0415
    import trio  # noqa: PLC0415

    from tss.edges import heap, logs, signals  # noqa: PLC0415
    from tss.edges.http import proxies  # noqa: PLC0415

    seen, stop_secs = settings.observability, settings.app.shutdown_timeout_secs
    ending = signals.Ending(stop_secs, min(AT_ONCE_SECS, stop_secs), FAILED)
    holds = signals.block(ending)  # before there is any other thread
    hidden = (*secrets(settings), *proxies.secrets(os.environ))
    logs.configure(seen.log_level, seen.json_logging, seen.service_name, settings.app.instance_id, secrets=hidden)
    logs.hear_the_interpreter()
    heard = signals.listen(ending, logs.words)

    from tss.core.otlp import SCANNER  # noqa: PLC0415  # a stop is heard while these are loaded
    from tss.daemon.supervisor import supervise  # noqa: PLC0415

    log = structlog.get_logger()
    _collect_garbage_rarely()
    heap.share_one_arena()
    log.info("starting", version=__version__, scanner=SCANNER, **in_force(settings, path))
    if SCANNER != "compiled":
        log.warning("the compiled modules are missing, so this is several times slower; install with a C compiler")
    if not holds:
        log.warning(
            "a stop may take longer than app.shutdownTimeoutSecs while a library holds the Python interpreter;"
            " install with a C compiler"
        )
    if without_effect(settings):
        log.warning("these settings have no effect, as things are", keys=without_effect(settings))
    plan = settings.sampling.plan
    notes = [] if plan is None else [str(note) for note in plan.notes if not note.minor]
    if notes:
        log.warning("sampling.otelTailSampling does not do all that it seems to say", notes=notes)
    if is_too_much(settings.app.max_buffer_bytes, memory_limit_bytes()):
        log.warning(
            "app.maxBufferBytes is more than the memory limit leaves, the kernel will kill this process when it is full;"
            " leave it out, or raise the limit",
            max_buffer_bytes=settings.app.max_buffer_bytes,
            memory_limit_bytes=memory_limit_bytes(),
        )
    code = DONE
    try:
        trio.run(supervise, settings, heard, path)
    except BaseException as error:  # noqa: BLE001  # every error is logged, and the process ends
        code = _tell(error)
    else:
        log.info("stopped")
    # stderr may hang, so the wait is bounded: a twentieth of the stop, within 0.2 and 1 s.
    logs.flush(max(0.2, min(1.0, stop_secs * 0.05)))
    # sys.exit would run the destructors of client libraries, which may wait for a broker that is away, and flush
    # sys.stderr, which may wait for a reader.
    os._exit(code)


def _tell(error: BaseException) -> int:
    """Log every error that ended the daemon, the worst first. Returns the exit code of the worst."""
    import structlog  # noqa: PLC0415  # as above

    log = structlog.get_logger()
    errors = sorted(_leaves(error), key=_gravity)
    for each in errors:
        if isinstance(each, StoppedAtOnce):
            log.warning("stopped at once by a second signal; Kafka still has what was not finished")
        else:
            log.critical(str(each) or repr(each), exc_info=None if _gravity(each) >= TOLD_BY_ITS_MESSAGE else each)
    return WRONG_USE if isinstance(errors[0], WrongSetting) else FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _gravity(error: BaseException) -> int:
    """The lower, the worse: a broken law, an unexpected error, settings that no restart can help, the rest."""
    match error:
        case LawBroken():
            return 0
        case WrongSetting():
            return TOLD_BY_ITS_MESSAGE
        case TssError():
            return TOLD_BY_ITS_MESSAGE + 1
        case StoppedAtOnce():
            return TOLD_BY_ITS_MESSAGE + 2
        case _:
            return 1  # also an OSError: the edges translate those that are expected


def _collect_garbage_rarely() -> None:
    """Open traces live long, and the code breaks their reference cycles itself when they end. So a collection over
    millions of them finds nothing, and stops the daemon meanwhile.

    Objects from the start are frozen: no collection looks at them. The youngest generation is collected after 50,000
    more allocations than deallocations. A full collection also waits until a quarter of the objects are new, which is
    the interpreter's own rule.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
