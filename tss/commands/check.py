"""`tss check`: whether the settings are sound, and which ones are in force."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from tss.commands import DONE, WRONG_USE
from tss.commands.config import add_config, settings_of
from tss.core.errors import WrongSetting
from tss.settings import Settings, SettingsError, render, without_effect

DESCRIPTION = """\
Check the settings without starting the daemon.
"""
EPILOG = """\
example:
  %(prog)s --config tss.yaml

exit codes: 0 if the settings are sound; 2 if they are not
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Its arguments and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_config(parser)


def call(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Check and report; returns the exit code."""
    try:
        settings = settings_of(options, environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    print(render(settings), end="")
    if without_effect(settings):
        print(f"without effect, as things are: {', '.join(without_effect(settings))}", file=sys.stderr)
    return _check_surroundings(settings)


def _check_surroundings(settings: Settings) -> int:
    from tss.edges import surroundings  # noqa: PLC0415  # brings the HTTP client, which half of the commands do not need

    try:
        surroundings.check(settings)
    except WrongSetting as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    return DONE
