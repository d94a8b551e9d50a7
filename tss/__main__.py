"""The command `tss`, and `python -m tss`: its first word names a sub-command. Without one the daemon runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tss.commands import FAILED, INTERRUPTED
from tss.commands.parser import parse, program

SOURCES = (".pyx", ".pxd", ".py")


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Do what the command line asks for; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options = parse(given, program(sys.argv[0]))
        code: int = options.call(options, environ)
    except (ImportError, AttributeError) as error:
        older = stale_module(Path(__file__).parent)
        if older is None:
            raise
        print(
            f"{older}: {error}; the compiled modules are older than the sources: run `make setup`",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as group:  # trio's, when it is interrupted
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        return INTERRUPTED
    return code


def stale_module(package: Path) -> Path | None:
    """A compiled module that is older than its source, so that an import may fail; None if there is no such module."""
    for compiled in package.rglob("*.so"):
        name = compiled.name.partition(".")[0]
        sources = [compiled.with_name(name + suffix) for suffix in SOURCES]
        if any(each.exists() and each.stat().st_mtime > compiled.stat().st_mtime for each in sources):
            return compiled
    return None


if __name__ == "__main__":
    sys.exit(main())
