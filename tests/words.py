"""`python -m tests.words`: the words that this project avoids, wherever a reader would meet them.

Read are the comments and texts of `tss/`, and the pages that are written by hand. Identifiers and quoted code are not.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/adr/*.md")

# By word or phrase, what to write instead.
AVOIDED = {
    r"mend(s|ed|ing)?": "fix, repair",
    r"faults?": "error",
    r"(?<!there )(?-i:is none)": "a full sentence: there is no ...",
    r"for want of": "because there is no ...",
    r"dear(er)?": "expensive",
    r"by (it|them)sel(f|ves)": "automatically, alone",
    r"puts? aside|putting aside": "dead-lettered",
    r"(told|tell|tells) apart": "distinguish",
    r"(come|comes|came) to(?! an end)(?= |$)": "the plain verb: amounts to, results in, reaches",
    r"what (comes|came) late": "late spans",
}
_AVOIDED = [(re.compile(rf"(?i:\b(?:{word})\b)"), instead) for word, instead in AVOIDED.items()]
_CODE = re.compile(r"`[^`]*`|\{[^{}]*\}")  # quoted, or between the braces of an f-string

Found = tuple[str, int, str, str]
"""File, line, the words found, and what to write instead."""


def texts_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Each line of a comment or string with its number; of an f-string what is not code."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            for number, line in enumerate(token.string.split("\n")):
                yield token.start[0] + number, line


def texts_of_cython(source: str) -> Iterator[tuple[int, str]]:
    """Comments and docstrings by their marks: Python's tokenizer does not know all of Cython."""
    inside = False
    for number, line in enumerate(source.split("\n"), 1):
        quotes = line.count('"""')
        if inside or quotes:
            yield number, line
        elif "#" in line:
            yield number, line.partition("#")[2]
        inside ^= quotes % 2 == 1


def texts_of_page(source: str) -> Iterator[tuple[int, str]]:
    """The lines of a Markdown page outside of code blocks."""
    inside = False
    for number, line in enumerate(source.split("\n"), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line


def found_in(text: str) -> list[tuple[str, str]]:
    """The avoided words in one line, each with what to write instead."""
    plain = _CODE.sub("", text)
    return [(match[0], instead) for pattern, instead in _AVOIDED for match in pattern.finditer(plain)]


def found() -> list[Found]:
    """All of them in the project."""
    readers = {".py": texts_of_python, ".pyi": texts_of_python, ".pyx": texts_of_cython, ".pxd": texts_of_cython}
    files = [(path, readers[path.suffix]) for path in sorted((ROOT / "tss").rglob("*")) if path.suffix in readers]
    files += [(path, texts_of_page) for page in PAGES for path in sorted(ROOT.glob(page))]
    return [
        (str(path.relative_to(ROOT)), line, *each)
        for path, read in files
        for line, text in read(path.read_text())
        for each in found_in(text)
    ]


def main() -> int:
    """The exit code: 1 if there is any."""
    everything = found()
    for file, line, word, instead in everything:
        print(f"{file}:{line}: {word!r}: write {instead}")
    return bool(everything)


if __name__ == "__main__":
    sys.exit(main())
