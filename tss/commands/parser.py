"""The one parser of the command line."""

from __future__ import annotations

import argparse
import difflib
import importlib
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType

from tss import __version__
from tss.commands import COMMANDS, MODULES
from tss.commands.config import completes_files, config_help

DEFAULT = "run"
TAKES_CONFIG_FIRST = ("run", "check")  # `tss --config FILE check` has always worked

_EPILOG = """\
examples:
  %(prog)s --config tss.yaml             run the daemon
  %(prog)s check --config tss.yaml       check the settings first
  %(prog)s size --rate 2000 --window 40  plan pods and memory

Each command has its own help: %(prog)s COMMAND --help"""


def program(path: str) -> str:
    """How the user calls it: `tss` if the console script runs, else `python -m tss`. `path` is sys.argv[0]."""
    return "tss" if Path(path).stem == "tss" else "python -m tss"


def parse(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """The options; `call` is the function to call with them. Ends the process with 2 for a wrong command line."""
    chosen = _command(arguments)
    made = parser(prog, [chosen or DEFAULT])
    if chosen and chosen not in COMMANDS:
        close = difflib.get_close_matches(chosen, COMMANDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        made.error(f"there is no command {chosen!r}{hint} Commands: {', '.join(COMMANDS)}")
    if chosen and chosen not in TAKES_CONFIG_FIRST and chosen != arguments[0]:
        made.error(f"{chosen} comes first: {prog} {chosen} --help")
    options = made.parse_args(arguments)
    if chosen is None:
        options.call = _module(DEFAULT).call
    options.config = getattr(options, "config", None) or options.config_first
    return options


def parser(prog: str, chosen: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """All commands. Only the chosen ones have their arguments, because that loads their modules."""
    made = argparse.ArgumentParser(
        prog,
        description="Tail Sampling Selector: reads OTLP spans from Kafka, decides once per whole trace, sends what it keeps.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completes_files(made.add_argument("--config", dest="config_first", metavar="FILE", help=config_help()))
    made.add_argument("--version", action="version", version=f"tss {__version__}")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in chosen:
            module = _module(name)
            module.describe(command)
            command.set_defaults(call=module.call)
    return made


def _command(arguments: Sequence[str]) -> str | None:
    """The first word that is no option; None if there is no such word."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            return word
        if word.startswith("--c") and "=" not in word:  # --config, perhaps abbreviated: a value follows
            next(words, None)
    return None


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"tss.commands.{MODULES.get(name, name)}")
