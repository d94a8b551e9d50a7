"""`tss completion`: a script that lets the shell complete commands and options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from tss.commands import DONE
from tss.commands.parser import parser as whole_parser

SHELLS = ("bash", "zsh")

DESCRIPTION = """\
Print a script by which the shell completes commands, options and file names.
"""
EPILOG = """\
examples:
  source <(tss completion bash)                   for this bash; put the line into ~/.bashrc for all
  tss completion zsh > "${fpath[1]}/_tss"         for zsh

It completes `tss`, not `python -m tss`.

exit codes: 0 done; 2 a wrong command line
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("shell", choices=SHELLS)


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Print the script; returns the exit code."""
    import shtab  # noqa: PLC0415  # loaded only here, because `describe` is called for every script

    sys.stdout.write(shtab.complete(whole_parser("tss"), options.shell))
    return DONE
