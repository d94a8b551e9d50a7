"""Checks a condition's tree: names, arguments, literals. Source: pkg/ottl v1.4.1, `functions.go` and `expression.go`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import final

import attrs

from tss.core.conditions import paths
from tss.core.conditions.checked import (
    AllOf,
    AnyOf,
    Applied,
    Asked,
    Compared,
    Computed,
    Entries,
    Expression,
    Fixed,
    Items,
    Known,
    Logic,
    Negated,
    Opposite,
    Reference,
    references,
)
from tss.core.conditions.comparing import compare
from tss.core.conditions.errors import ConditionError, Failed, nearest, read_each, shown
from tss.core.conditions.formula import Place
from tss.core.conditions.functions import (
    ASKED,
    CHECKS,
    FUNCTIONS,
    LEFT_OUT,
    LISTS,
    Function,
    Parameter,
    Takes,
    snake,
    suggestion,
)
from tss.core.conditions.paths import Context
from tss.core.conditions.tree import (
    And,
    Argument,
    Arithmetic,
    At,
    Boolean,
    Call,
    Comparison,
    Constant,
    Holds,
    ListOf,
    Literal,
    MapOf,
    Negative,
    Not,
    Or,
    Path,
    Symbol,
    Value,
)
from tss.core.conditions.values import AnyList, as_stored


@final
@attrs.frozen
class Checker:
    """Checks trees for one context. With `ours`, `root.` and `trace.` are known. All methods raise ConditionError."""

    context: Context
    ours: bool

    # -- conditions

    def logic(self, tree: Boolean) -> Logic:
        """The checked condition. Literals are folded as pkg/ottl folds them: `x or true` is true, even where x fails."""
        match tree:
            case Constant(_, value):
                return Fixed(value)
            case And(_, of):
                return _joined(read_each(self.logic, of), settles=False)
            case Or(_, of):
                return _joined(read_each(self.logic, of), settles=True)
            case Not(_, of):
                inner = self.logic(of)
                return Fixed(not inner.value) if isinstance(inner, Fixed) else Opposite(inner)
            case Holds(at, call):
                asked = Asked(self._call(call))
                self._check_owners(at, asked)
                return asked
            case Comparison():
                return self._comparison(tree)

    def _comparison(self, tree: Comparison) -> Logic:
        left, right = read_each(self.expression, (tree.left, tree.right))
        if isinstance(left, Known) and isinstance(right, Known):
            return Fixed(compare(tree.operator, left.value, right.value))
        compared = Compared(tree.operator, left, right)
        self._check_owners(tree.at, compared)
        return compared

    def _check_owners(self, at: At, node: Logic) -> None:
        """One comparison is of one span, of the root or of the trace."""
        first: Reference | None = None
        for reference in references(node):
            if first is not None and reference.found.of is not first.found.of:
                raise at.error(
                    f"found {shown(first.told)} of {first.found.of.value} and {shown(reference.told)} of "
                    f"{reference.found.of.value} in one comparison, expected paths of one of them"
                )
            first = first or reference

    # -- values

    def expression(self, tree: Value) -> Expression:
        """The checked value."""
        match tree:
            case Literal(_, value):
                return Known(value)
            case Symbol(at, name):
                if name not in paths.SYMBOLS:
                    raise at.error(
                        f"found {shown(name)}, expected an enum like STATUS_CODE_ERROR{_nearest_symbol(name)}"
                    )
                return Known(paths.SYMBOLS[name])
            case ListOf(_, items):
                return _list(read_each(self.expression, items))
            case MapOf(at, entries):
                return _map(at, [(key, self.expression(item)) for key, item in entries])
            case Path():
                return self._path(tree)
            case Call():
                return self._call(tree)
            case Negative(_, of):
                return Negated(self.expression(of))
            case Arithmetic(_, operator, left, right):
                return Computed(operator, *read_each(self.expression, (left, right)))

    def _path(self, tree: Path) -> Reference:
        found = paths.resolve(tree, self.context, ours=self.ours)
        return Reference(found, self._keys(tree.sections[-1].keys))

    def _keys(self, keys: Iterable[Value]) -> tuple[Expression, ...]:
        return tuple(map(self._key, keys))

    def _key(self, key: Value) -> Expression:
        try:
            return self.expression(key)
        except ConditionError as error:
            if not isinstance(key, Path) or error.column != key.at.column or error.line != key.at.line:
                raise
            message = f'found {shown(key.text)}, expected a key in double quotes; did you mean `"{key.text}"`?'
            raise key.at.error(message) from None

    # -- calls

    def _call(self, tree: Call) -> Applied:
        function = FUNCTIONS.get(tree.name)
        if function is None or (tree.name == "IsRootSpan" and self.context is not Context.SPAN):
            raise tree.at.error(_why_not(tree.name, self.context))
        given = self._given(function, tree)
        pairs = zip(function.parameters, given, strict=True)
        arguments = read_each(lambda pair: None if pair[1] is None else self._argument(pair[0], pair[1]), pairs)
        literals = [
            _literal(parameter, argument) for parameter, argument in zip(function.parameters, arguments, strict=True)
        ]
        try:
            run = function.make(*literals)
        except (ValueError, Failed) as error:
            _check_pattern(function, given, literals, error)
            raise tree.at.error(
                f"found a call of {function.name} that never works, expected {function.usage}: {error}"
            ) from error
        return Applied(function, tuple(arguments), run, self._keys(tree.keys))

    def _given(self, function: Function, tree: Call) -> list[Argument | None]:
        """The argument of each parameter."""
        parameters = function.parameters
        if not parameters:  # pkg/ottl then looks at no argument
            return []
        needed = sum(not parameter.is_optional for parameter in parameters)
        if not needed <= len(tree.arguments) <= len(parameters):
            count = f"{needed}" if needed == len(parameters) else f"{needed} to {len(parameters)}"
            found = "1 argument" if len(tree.arguments) == 1 else f"{len(tree.arguments)} arguments"
            raise tree.at.error(f"found {found}, expected {count}: {function.usage}")
        given: list[Argument | None] = [None] * len(parameters)
        names = [parameter.name for parameter in parameters]
        was_named = False
        for place, argument in enumerate(tree.arguments):
            if argument.name:
                was_named, name = True, _camel(argument.name)
                if name not in names:
                    raise argument.at.error(f"found {shown(argument.name)}, expected a parameter of {function.usage}")
                place = names.index(name)  # noqa: PLW2901  # the place of the parameter
            elif was_named:
                raise argument.at.error("found an argument without a name after one with a name, expected a name")
            if given[place] is not None:
                raise argument.at.error(f"found `{names[place]}` twice, expected {function.usage}")
            given[place] = argument
        missing = [
            parameter.name
            for parameter, each in zip(parameters, given, strict=True)
            if each is None and not parameter.is_optional
        ]
        if missing:
            raise tree.at.error(f"found no `{missing[0]}`, expected {function.usage}")
        return given

    def _argument(self, parameter: Parameter, argument: Argument) -> Expression:
        tree, takes = argument.value, parameter.takes
        if takes is Takes.FIXED_TEXT or takes is Takes.FIXED_BOOL:
            wanted = str if takes is Takes.FIXED_TEXT else bool
            if not isinstance(tree, Literal) or not isinstance(tree.value, wanted):
                raise tree.at.error(f"found another value for `{snake(parameter.name)}`, expected {takes.value}")
            return Known(tree.value)
        if takes in LISTS:
            if not isinstance(tree, ListOf):
                raise tree.at.error(f"found another value for `{snake(parameter.name)}`, expected {takes.value}")
            return Items(tuple(self._checked(LISTS[takes], item, parameter.name) for item in tree.items))
        return self._checked(takes, tree, parameter.name)

    def _checked(self, takes: Takes, tree: Value, name: str) -> Expression:
        """A literal has to be of the right type."""
        found = self.expression(tree)
        if isinstance(found, Known) and takes in CHECKS:
            try:
                CHECKS[takes](found.value)
            except Failed as error:
                raise tree.at.error(
                    f"found {shown(found.told)} for `{snake(name)}`, expected {_plain(takes)}{_why(error)}"
                ) from error
        return found


def _why(error: Failed) -> str:
    """Why a literal is refused, without what was expected."""
    _, _, got = str(error).partition(", got ")
    return f"; this is {got}" if got else f"; {error}"


def _check_pattern(function: Function, given: list[Argument | None], literals: list[object], error: Exception) -> None:
    """Raises ConditionError at the regular expression, if the function has one."""
    for parameter, argument, literal in zip(function.parameters, given, literals, strict=True):
        if parameter.name == "Pattern" and argument is not None and isinstance(literal, str):
            asks_around = re.search(r"\(\?(?:[=!]|<[=!])|\\[1-9]", literal)
            hint = "; RE2 has neither look-around nor backreferences" if asks_around else ""
            message = f"found a wrong regular expression ({error}), expected RE2's syntax{hint}"
            raise argument.value.at.error(message) from error


def _plain(takes: Takes) -> str:
    return takes.value.removeprefix("a value, or ") if takes in ASKED else takes.value


def _literal(parameter: Parameter, argument: Expression | None) -> object:
    """An argument that is a literal, as its function takes it; else None."""
    if isinstance(argument, Known):
        check = CHECKS.get(parameter.takes)
        return argument.value if check is None or parameter.takes in ASKED else check(argument.value)
    if isinstance(argument, Items) and parameter.takes in LISTS:
        check = CHECKS.get(LISTS[parameter.takes])
        known = [item.value for item in argument.items if isinstance(item, Known)]
        if len(known) == len(argument.items):
            return known if check is None else [check(value) for value in known]
    return None


def _why_not(name: str, context: Context) -> str:
    if name in LEFT_OUT:
        return f"found {shown(name)}, expected another function; {LEFT_OUT[name]}"
    if name == "IsRootSpan":
        return f"found {shown(name)}, expected a function of {context.value}: events have no IsRootSpan"
    return f"found {shown(name)}, expected a function{suggestion(name)}"


def _nearest_symbol(name: str) -> str:
    ends = [symbol for symbol in paths.SYMBOLS if symbol.endswith(f"_{name.upper()}")]
    if len(ends) == 1:
        return nearest(ends[0], ends)
    return nearest(name, paths.SYMBOLS) or nearest(name, paths.TARGETS[Place.SPAN], most=0.9)


def _camel(name: str) -> str:
    """strcase's ToCamel, by which pkg/ottl finds a parameter."""
    found, is_upper = "", True
    for letter in name:
        if letter.isalpha():
            found += letter.upper() if is_upper else letter
            is_upper = False
        else:
            found += letter if letter.isdigit() else ""
            is_upper = True
    return found


def _joined(members: list[Logic], *, settles: bool) -> Logic:
    """`or` (which true settles) or `and` (which false settles), without literals."""
    if any(isinstance(each, Fixed) and each.value is settles for each in members):
        return Fixed(settles)
    left = tuple(each for each in members if not isinstance(each, Fixed))
    if not left:
        return Fixed(not settles)
    if len(left) == 1:
        return left[0]
    return AnyOf(left) if settles else AllOf(left)


def _list(items: list[Expression]) -> Expression:
    if all(isinstance(item, Known) for item in items):
        return Known(AnyList(tuple(item.value for item in items if isinstance(item, Known))))
    return Items(tuple(items))


def _map(at: At, items: list[tuple[str, Expression]]) -> Expression:
    if not all(isinstance(item, Known) for _, item in items):
        return Entries(tuple(items))
    found = {}
    for key, item in items:
        if isinstance(item, Known):
            try:
                found[key] = stored(item.value)
            except Failed as error:
                raise at.error(f"found a map that never works, expected literals: {error}") from error
    return Known(found)


def stored(value: object) -> object:
    """A value that is put into a map. Raises Failed."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, AnyList):
        return [item if isinstance(item, Mapping) else as_stored(item) for item in value.items]
    return as_stored(value)
