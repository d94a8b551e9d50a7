"""No text of a producer, a peer or a file makes one of our own regular expressions slow: their time is linear in its length.

Patterns of operators run in RE2. These are ours, in `re`, which may try a text in very many ways. They are found, not
listed, so that a new one is measured too: compiled ones in modules, also within tuples and mappings, and those that stand in
a call (`re.sub("...")`). `tss.settings` is left out: an operator's text, read once at the start.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import pkgutil
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import tss

WAYS = ("match", "fullmatch", "search", "sub", "finditer", "split", "findall")
SHORT, LONG = 2_000, 8_000  # letters
LINEAR = 8  # times as long for four times the letters: linear is 4, the square is 16
NO_TIME_SECS = 0.002  # at LONG no square is below it: that is 32 million steps


@attrs.frozen
class Use:
    """A pattern, and how it is asked."""

    where: str
    pattern: re.Pattern[Any] = attrs.field(repr=False)
    way: str

    def ask(self, text: str) -> None:
        bare = text.encode("utf-8", "surrogatepass") if isinstance(self.pattern.pattern, bytes) else text
        if self.way == "sub":
            self.pattern.sub(bare[:0], bare)
        elif self.way == "finditer":
            for _ in self.pattern.finditer(bare):
                pass
        else:
            getattr(self.pattern, self.way)(bare)

    def cpu_secs(self, text: str, times: int) -> float:
        """The least of so many: what else the machine did is in the others."""
        return min(self._once(text) for _ in range(times))

    def _once(self, text: str) -> float:
        began = time.thread_time()
        self.ask(text)
        return time.thread_time() - began


def modules() -> Iterator[tuple[ModuleType, ast.Module]]:
    for found in pkgutil.walk_packages(tss.__path__, "tss."):
        if found.name.endswith("__main__") or found.name.startswith("tss.settings"):
            continue
        source = Path(tss.__file__).parent.joinpath(*found.name.split(".")[1:])
        files = [file for file in (source.with_suffix(".py"), source / "__init__.py") if file.is_file()]
        yield importlib.import_module(found.name), ast.parse(files[0].read_text() if files else "")


def patterns_in(value: object) -> Iterator[re.Pattern[Any]]:
    match value:
        case re.Pattern():
            yield value
        case dict():
            for each in value.values():
                yield from patterns_in(each)
        case list() | tuple() | set() | frozenset():
            for each in value:
                yield from patterns_in(each)


def uses() -> Iterator[Use]:
    for module, tree in modules():
        nodes = [
            node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        ]
        for name, value in vars(module).items():
            asked = {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == name}
            # Where another takes it, by what name it asks is not to be seen.
            ways = sorted(asked & {*WAYS}) or ("match", "fullmatch", "sub")
            for pattern in patterns_in(value):
                yield from (Use(f"{module.__name__}.{name}", pattern, way) for way in ways)
        yield from inline(module, tree)


def inline(module: ModuleType, tree: ast.Module) -> Iterator[Use]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="re"), attr=way),
                args=[ast.Constant(value=str() | bytes() as text), *_],
            ) if way in WAYS:
                yield Use(f"{module.__name__}:{node.lineno}", re.compile(text), way)


USES = [*uses()]


def test_they_are_found():
    found = {use.where for use in USES}
    assert {
        "tss.core.formats.datadog.values._FRACTION",
        "tss.edges.logs._URL_PASSWORD",
        "tss.core.compression.sql._TOKEN",
    } <= found
    assert any(":" in where for where in found)  # within a call


def parts_of(pattern: re.Pattern[Any]) -> tuple[list[str], list[str]]:
    """The words that it is made of, and single letters that its classes take."""
    words: dict[str, None] = {}
    letters: dict[str, None] = {}

    def walk(tree: Any) -> None:
        word = ""
        for operation, given in [*tree, ("END", None)]:
            if str(operation) == "LITERAL":
                word += chr(given)
                continue
            if word:
                words[word] = letters[word[0]] = None
            word = ""
            match str(operation), given:
                case "IN", _:
                    for kind, member in given:
                        if str(kind) == "RANGE":
                            letters.update(dict.fromkeys(map(chr, member)))
                        elif str(kind) == "LITERAL":
                            letters[chr(member)] = None
                case ("MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT", (_, _, inner)):
                    walk(inner)
                case ("SUBPATTERN", (_, _, _, inner)) | ("ASSERT" | "ASSERT_NOT", (_, inner)):
                    walk(inner)
                case "ATOMIC_GROUP", inner:
                    walk(inner)
                case "BRANCH", (_, branches):
                    for branch in branches:
                        walk(branch)

    text = pattern.pattern.decode() if isinstance(pattern.pattern, bytes) else pattern.pattern
    walk(re._parser.parse(text, pattern.flags & re.VERBOSE))  # type: ignore[attr-defined]  # nothing public tells
    return [*words], [*letters]


def texts(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """How one may begin, what is repeated in it, and how it ends: after nearly fitting, not to fit is what takes long."""
    words, letters = parts_of(pattern)
    pieces = [*dict.fromkeys([*words[:8], *letters[:10], *"a0 _:'\"\\(", *letters[10:]])][:24]
    repeated = [*pieces, *map("".join, itertools.permutations(pieces, 2))]
    return itertools.product(["", *words[:5]], repeated, ["", "!"])


def written(parts: tuple[str, str, str], length: int) -> str:
    start, repeated, end = parts
    return start + (repeated * (length // len(repeated) + 1))[:length] + end


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.where}-{use.way}")
def test_no_text_takes_more_than_its_length(use):
    slowest = sorted(texts(use.pattern), key=lambda parts: use.cpu_secs(written(parts, 256), 1))[-8:]
    for parts in slowest:
        short, long = (written(parts, length) for length in (SHORT, LONG))
        for tries in (1, 9):  # a second look, before it is believed
            secs = use.cpu_secs(long, tries)
            slow = secs > NO_TIME_SECS and secs > LINEAR * use.cpu_secs(short, max(3, tries))
            if not slow:
                break
        assert not slow, f"{secs:.3f} s for {LONG} letters like {written(parts, 20)!r}"
