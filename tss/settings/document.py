"""YAML for settings: numbers and booleans as people expect them, no key twice, no secrets in errors."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tss.settings.errors import InvalidSetting, InvalidValue

_INT, _FLOAT, _TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))
_MERGE = "tag:yaml.org,2002:merge"

_POINT = r"(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_NUMBERS = {
    _INT: re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"),
    _FLOAT: re.compile(rf"[-+]?(?:{_POINT}|[0-9]+[eE][-+]?[0-9]+)$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"),
}

# For PyYAML's error texts: it quotes by repr(), and puts the names of tokens in brackets.
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_TOKENS = {
    "<stream end>": "the end of the text",
    "<document start>": "the start of a document",
    "<document end>": "the end of a document",
    "<block mapping start>": "a key, indented unlike those above",
    "<block sequence start>": "a list, indented unlike what is above",
    "<block end>": "the end of the block",
    "<scalar>": "a text",
    "<alias>": "an alias",
    "<anchor>": "an anchor",
    "<tag>": "a tag",
    "?": "a key",
}
_BRACKETED = re.compile("|".join(name for name in _TOKENS if name.startswith("<")))
_SIGNS = {r"\t": "a tab", r"\n": "a line break", r"\r": "a line break", r"\x00": "the end of the text"}


class _Loader(yaml.SafeLoader):
    """Reads only decimal numbers as numbers. In YAML 1.1, 010 is 8, 1:30 is 90, and 1e+06, as Helm writes it, is text."""


class _Dumper(yaml.SafeDumper):
    """Has the loader's rules, so that it quotes each text that the loader would read as a number."""

    def ignore_aliases(self, data: object) -> bool:  # PyYAML calls it so
        return True


def _use_plain_numbers(cls: type[_Loader] | type[_Dumper]) -> None:
    kept = {
        first: [(tag, regexp) for tag, regexp in rules if tag not in (_INT, _FLOAT, _TIMESTAMP)]
        for first, rules in cls.yaml_implicit_resolvers.items()
    }
    cls.yaml_implicit_resolvers = kept
    for tag, regexp in _NUMBERS.items():
        cls.add_implicit_resolver(tag, regexp, list("-+.0123456789"))


_use_plain_numbers(_Loader)
_use_plain_numbers(_Dumper)


def parse(text: str) -> tuple[object, list[InvalidSetting]]:
    """The document's value, and an error for each key that is given twice. Raises InvalidValue if the text is not YAML."""
    try:
        loader = _Loader(text)
        root: Any = loader.get_single_node()
        if root is None:
            return None, []
        errors = list(_double_keys(root, "", set()))  # before construction, which resolves merges in these same nodes
        return loader.construct_document(root), errors
    except yaml.YAMLError as error:
        raise InvalidValue(InvalidSetting("", _told(error), "one YAML document", _hint(error, text))) from None
    except (ValueError, LookupError, AttributeError, RecursionError):
        # PyYAML raises plain Python errors for a value that does not fit its explicit tag, such as `!!int x`.
        raise InvalidValue(
            InvalidSetting("", "a value that does not fit its tag, or nesting that is too deep", "one YAML document")
        ) from None


def _told(error: yaml.YAMLError) -> str:
    """The error's text without any word of the document: the line may contain a password."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "characters that YAML does not allow"
    # The context begins the sentence, unless it says "while scanning ...".
    first = "" if (error.context or "while").startswith("while") else f"{error.context}, "
    problem = _QUOTED.sub(_readable, f"{first}{error.problem or 'syntax'}")
    problem = problem.removesuffix(", but found ...")
    problem = _BRACKETED.sub(lambda name: _TOKENS[name[0]], problem).removeprefix("found ").removeprefix("character ")
    mark = error.problem_mark or error.context_mark
    place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"a YAML error{place}: {problem}"


_BOUND = re.compile(r"[:,\[{-] *[<>]=? *[0-9]")  # as in `latency: > 2s`


def _hint(error: yaml.YAMLError, text: str) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    rows = text.splitlines()
    if mark and mark.line < len(rows) and _BOUND.search(rows[mark.line]):
        return "put a text that begins with > in quotes"
    problem = (error.problem or "") if isinstance(error, yaml.MarkedYAMLError) else ""
    if problem.startswith("mapping values are not allowed"):
        return "write a mapping in braces, as in when: {status: error}, and a text with a colon in quotes"
    if r"'\t' that cannot start" in problem:
        return "indent with spaces, not with tabs"
    return ""


def _readable(quoted: "re.Match[str]") -> str:
    """A quoted part of PyYAML's text, if it is a token's name or a sign. Words and letters are the document's, and are hidden."""
    inside = quoted[0][1:-1]
    if inside in _TOKENS:
        return _TOKENS[inside]
    if inside in _SIGNS:
        return _SIGNS[inside]
    return quoted[0] if len(inside) == 1 and inside.isascii() and not inside.isalnum() else "..."


def _double_keys(node: Any, path: str, seen: set[int]) -> Iterator[InvalidSetting]:
    if id(node) in seen:  # an alias, perhaps to a node that contains it
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for place, entry in enumerate(node.value):
            yield from _double_keys(entry, f"{path}[{place}]", seen)
    elif isinstance(node, yaml.MappingNode):
        yield from _double_keys_here(node, path, seen)


def _double_keys_here(node: Any, path: str, seen: set[int]) -> Iterator[InvalidSetting]:
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        if key.tag == _MERGE or not isinstance(key, yaml.ScalarNode):  # construction refuses other keys
            continue
        below = f"{path}.{key.value}" if path else str(key.value)
        line = key.start_mark.line + 1
        if key.value in first_lines:
            first = first_lines[key.value]
            where = f"twice in line {line}" if first == line else f"at lines {first} and {line}"
            yield InvalidSetting(below, f"the same key {where}", "each key once")
        first_lines[key.value] = line
        yield from _double_keys(value, below, seen)


def lines(text: str) -> dict[str, int]:
    """The line of each key and each entry of a list, by path. `text` is a document that `parse` has read."""
    found: dict[str, int] = {}
    root: Any = _Loader(text).get_single_node()
    if root is not None:
        _add_lines(root, "", found, set())
    return found


def _add_lines(node: Any, path: str, found: dict[str, int], seen: set[int]) -> None:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for place, entry in enumerate(node.value):
            found[f"{path}[{place}]"] = entry.start_mark.line + 1
            _add_lines(entry, f"{path}[{place}]", found, seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                below = f"{path}.{key.value}" if path else str(key.value)
                found.setdefault(below, key.start_mark.line + 1)
                _add_lines(value, below, found, seen)


def dump(value: object) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
