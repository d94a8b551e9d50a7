"""A condition whose names are resolved and whose literals are checked. Each part tells its canonical text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, final

import attrs

from tss.core.conditions.formula import Place
from tss.core.conditions.functions import Function
from tss.core.conditions.paths import TARGETS, Found, Keys, Of
from tss.core.conditions.values import AnyList


@final
@attrs.frozen(eq=False)
class Known:
    """A literal. Lists that are written out are AnyList, maps are mappings."""

    value: Any

    @property
    def told(self) -> str:
        return _literal(self.value)


@final
@attrs.frozen(eq=False)
class Reference:
    """The value of a path. `keys` are all its keys, an attribute's own key included."""

    found: Found
    keys: tuple[Expression, ...]

    @property
    def told(self) -> str:
        return self.found.told + _keys(self.keys)

    @property
    def key(self) -> str | None:
        """The attribute's key, if it is written out."""
        first = self.keys[0] if self.keys and self.found.target.keys is Keys.MAP else None
        return first.value if isinstance(first, Known) and isinstance(first.value, str) else None


@final
@attrs.frozen(eq=False)
class Items:
    """A list with other items than literals."""

    items: tuple[Expression, ...]

    @property
    def told(self) -> str:
        return f"[{', '.join(item.told for item in self.items)}]"


@final
@attrs.frozen(eq=False)
class Entries:
    """A map with other values than literals."""

    items: tuple[tuple[str, Expression], ...]

    @property
    def told(self) -> str:
        return f"{{{', '.join(f'{_literal(key)}: {item.told}' for key, item in self.items)}}}"


@final
@attrs.frozen(eq=False)
class Applied:
    """A call. `arguments` are in the order of the parameters, None for one that is left out; `run` takes all of them."""

    function: Function
    arguments: tuple[Expression | None, ...]
    run: Any
    keys: tuple[Expression, ...] = ()

    @property
    def told(self) -> str:
        given = list[str]()
        for parameter, argument in zip(self.function.parameters, self.arguments, strict=True):
            if argument is None:
                continue
            name = f"{_camel(parameter.name)} = " if len(given) < self.arguments.index(argument) else ""
            given.append(f"{name}{argument.told}")
        return f"{self.function.name}({', '.join(given)}){_keys(self.keys)}"


@final
@attrs.frozen(eq=False)
class Negated:
    """`-x`."""

    of: Expression

    @property
    def told(self) -> str:
        return f"-({self.of.told})"


@final
@attrs.frozen(eq=False)
class Computed:
    """Arithmetic."""

    operator: str
    left: Expression
    right: Expression

    @property
    def told(self) -> str:
        return f"({self.left.told} {self.operator} {self.right.told})"


Expression = Known | Reference | Items | Entries | Applied | Negated | Computed


@final
@attrs.frozen(eq=False)
class Compared:
    """A comparison."""

    operator: str
    left: Expression
    right: Expression

    @property
    def told(self) -> str:
        return f"{self.left.told} {self.operator} {self.right.told}"


@final
@attrs.frozen(eq=False)
class Asked:
    """A call that has to answer with a bool."""

    call: Applied

    @property
    def told(self) -> str:
        return self.call.told


@final
@attrs.frozen(eq=False)
class Fixed:
    """`true` or `false`."""

    value: bool

    @property
    def told(self) -> str:
        return "true" if self.value else "false"


@final
@attrs.frozen(eq=False)
class AllOf:
    """`and`."""

    of: tuple[Logic, ...]

    @property
    def told(self) -> str:
        return f"({' and '.join(each.told for each in self.of)})"


@final
@attrs.frozen(eq=False)
class AnyOf:
    """`or`."""

    of: tuple[Logic, ...]

    @property
    def told(self) -> str:
        return f"({' or '.join(each.told for each in self.of)})"


@final
@attrs.frozen(eq=False)
class Opposite:
    """`not`."""

    of: Logic

    @property
    def told(self) -> str:
        return f"not ({self.of.told})"


Logic = Compared | Asked | Fixed | AllOf | AnyOf | Opposite


PARENT = Reference(Found(Of.SPAN, Place.SPAN, TARGETS[Place.SPAN]["parent_span_id"], "span.parent_span_id", 1), ())
"""What IsRootSpan reads."""


def references(node: Logic | Expression) -> Iterator[Reference]:
    """The paths in a part of a condition, from left to right, those in keys included."""
    if isinstance(node, Reference):
        yield node
    if isinstance(node, Applied) and node.function.name == "IsRootSpan":
        yield PARENT
    for each in _inside(node):
        yield from references(each)


def _inside(node: Logic | Expression) -> tuple[Logic | Expression, ...]:
    """The parts of a part."""
    match node:
        case Compared(_, left, right) | Computed(_, left, right):
            return left, right
        case AllOf(of) | AnyOf(of) | Items(of):
            return of
        case Entries(items):
            return tuple(each for _, each in items)
        case Opposite(inner) | Negated(inner) | Asked(inner):
            return (inner,)
        case Applied(_, arguments, _, keys):
            return (*(each for each in arguments if each is not None), *keys)
        case Reference(_, keys):
            return keys
    return ()


def owners(node: Logic | Expression) -> frozenset[Of]:
    """Whose values a part of a condition reads."""
    return frozenset(reference.found.of for reference in references(node))


def _keys(keys: tuple[Expression, ...]) -> str:
    return "".join(f"[{key.told}]" for key in keys)


def _camel(name: str) -> str:
    return name[0].lower() + name[1:]


def _literal(value: Any) -> str:
    """A literal as OTTL writes it, so that the canonical text is a condition too."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, float):
        mantissa, _, exponent = repr(value).partition("e")
        return (mantissa if "." in mantissa else f"{mantissa}.0") + (f"e{exponent}" if exponent else "")
    if isinstance(value, AnyList):
        return f"[{', '.join(map(_literal, value.items))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_literal(key)}: {_literal(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return str(value)
