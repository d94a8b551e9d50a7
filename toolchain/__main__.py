"""`python -m toolchain java|go|cc`: where it is, fetched if need be. `python -m toolchain pip ...`: pip, which fails in one line."""

import sys
from collections.abc import Callable
from pathlib import Path

from toolchain import cc, go, java, pip

TOOLS: dict[str, Callable[[], str | Path]] = {"java": java, "go": go, "cc": cc}


def main(arguments: list[str]) -> None:
    """Raises SystemExit with what to say where it does not succeed."""
    try:
        match arguments:
            case ["pip", *rest]:
                pip.run(*rest)
            case [tool] if tool in TOOLS:
                print(TOOLS[tool]())
            case _:
                sys.exit("usage: python -m toolchain java|go|cc, or pip and what it is to do")
    except pip.Failed as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main(sys.argv[1:])
