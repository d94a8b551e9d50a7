"""The option --config: where the settings come from."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from tss.settings import CONFIG_VARIABLE, Settings, load

STDIN = "-"
_STDIN_PATH = "/dev/stdin"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Without a default, so that an option before the command stays valid."""
    completes_files(parser.add_argument("--config", metavar="FILE", help=config_help()))


def completes_files(option: argparse.Action) -> None:
    """The shell completes file names after it: this is how shtab is told, without loading it."""
    option.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}  # type: ignore[attr-defined]


def config_help() -> str:
    return f"settings in YAML; - reads them from stdin (default: ${CONFIG_VARIABLE})"


def path_of(options: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    """The file to read; None: the settings are in the environment alone."""
    path = options.config or environ.get(CONFIG_VARIABLE)
    return _STDIN_PATH if path == STDIN else path


def settings_of(
    options: argparse.Namespace,
    environ: Mapping[str, str],
    *,
    offline: bool = False,
    places: dict[str, int] | None = None,
) -> Settings:
    """The settings of that file and the environment. Raises SettingsError with every error in them. ``offline``: the brokers
    and a destination may be missing. ``places`` gets the line of each key in the file."""
    return load(path_of(options, environ), environ, offline=offline, places=places)
