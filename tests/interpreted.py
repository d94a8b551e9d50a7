"""The daemon without its compiled modules, as where there is no C compiler: import this before anything of `tss`."""

from __future__ import annotations

import os
import sys
from importlib.abc import PathEntryFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

import tss

ASKED = "INTERPRETED"  # in the environment

_PACKAGE = Path(tss.__file__).parent


def interpret() -> None:
    """From now on modules of the package come from their Python source alone, and the scanner is the reference."""
    make = FileFinder.path_hook((SourceFileLoader, SOURCE_SUFFIXES))

    def hook(path: str) -> PathEntryFinder:
        if not Path(path).is_relative_to(_PACKAGE):
            raise ImportError
        return make(path)

    sys.path_hooks.insert(0, hook)
    for path in [path for path in sys.path_importer_cache if Path(path).is_relative_to(_PACKAGE)]:
        del sys.path_importer_cache[path]


if os.environ.get(ASKED):
    interpret()
