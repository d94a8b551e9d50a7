"""Reads the tree of a condition. Source: pkg/ottl v1.4.1, `grammar.go`, whose choices are tried in order."""

from __future__ import annotations

import math

from tss.core.conditions.errors import ConditionError, shown
from tss.core.conditions.functions import FUNCTIONS, suggestion
from tss.core.conditions.lexer import Kind, Token, tokens, unquoted
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
    Section,
    Symbol,
    Value,
)

MAX_DEPTH = 40
"""Levels of brackets, calls and keys. pkg/ottl has no bound."""

MAX_OPERATORS = 200
"""Operators of arithmetic in one condition, counted again where a bracket is read twice. pkg/ottl has no bound."""

_MAX_INT = (1 << 63) - 1
_COMPARISON = "a comparison (== != < <= > >=)"
_VALUE = "a value: a path, a literal or a function"
_BEGINS_MATH = {Kind.INT, Kind.FLOAT, Kind.LOWER, Kind.PAREN, Kind.PLUS_MINUS}
_WORDS = {
    "in": "a list is asked with ContainsValue([...], value)",
    "contains": 'a part of a text is asked with IsMatch(..., "part")',
    **dict.fromkeys(("matches", "match", "like", "regex"), 'a pattern is asked with IsMatch(..., "pattern")'),
    **dict.fromkeys(("startswith", "starts"), 'a beginning is asked with HasPrefix(..., "text")'),
    **dict.fromkeys(("endswith", "ends"), 'an end is asked with HasSuffix(..., "text")'),
    "between": "bounds are two comparisons joined by `and`: x >= 500 and x <= 599",
    **dict.fromkeys(("exists", "is"), "whether a value exists is asked with `!= nil`"),
}
"""What to write in place of a word between two values."""
_EDITORS = frozenset({
    "append", "delete_index", "delete_key", "delete_keys", "delete_matching_keys", "flatten", "keep_keys", "keep_matching_keys", "limit",
    "merge_maps", "replace_all_matches", "replace_all_patterns", "replace_match", "replace_pattern", "set", "truncate_all",
})  # fmt: skip
"""pkg/ottl's functions that change a record."""
_MEANT = {
    "NOT": "not", "None": "nil", "Null": "nil", "NULL": "nil", "Nil": "nil", "True": "true", "False": "false",
    "Unset": "STATUS_CODE_UNSET", "Ok": "STATUS_CODE_OK", "Error": "STATUS_CODE_ERROR", "Internal": "SPAN_KIND_INTERNAL",
    "Server": "SPAN_KIND_SERVER", "Client": "SPAN_KIND_CLIENT", "Producer": "SPAN_KIND_PRODUCER", "Consumer": "SPAN_KIND_CONSUMER",
}  # fmt: skip
"""How a word is written that begins with a capital letter."""
_LAMBDA = "no lambda: functions with lambdas are not supported"


def read(text: str) -> Boolean:
    """The tree of a condition. Raises ConditionError."""
    wrong = next((at for at, letter in enumerate(text) if "\ud800" <= letter <= "\udfff"), None)
    if wrong is not None:
        line = text.count("\n", 0, wrong) + 1
        raise ConditionError(line, wrong - text.rfind("\n", 0, wrong), "found half a character, expected text")
    return _Reader(tokens(text)).whole()


class _Reader:
    def __init__(self, words: list[Token]) -> None:
        self._words = words
        self._at = 0
        self._depth = 0
        self._operators = 0  # of arithmetic: each one is a level of the tree

    @property
    def _word(self) -> Token:
        return self._words[self._at]

    def _place(self) -> At:
        return At(self._word.line, self._word.column)

    def _next(self) -> Token:
        word = self._words[self._at]
        self._at += 1
        return word

    def _is(self, text: str) -> bool:
        """Whether the next word is this mark, which only one kind of word can be."""
        return self._word.text == text

    def _expect(self, text: str, expected: str = "") -> None:
        if not self._is(text):
            raise self._error(expected or f"`{text}`")
        self._at += 1

    def _error(self, expected: str) -> ConditionError:
        return self._word.error(_LAMBDA if self._word.kind is Kind.ARROW else expected)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._word.error(f"at most {MAX_DEPTH} levels of brackets")

    # -- conditions

    def whole(self) -> Boolean:
        found = self._either()
        if self._word.kind is not Kind.END:
            raise self._error("`and`, `or` or the end of the condition" + self._hint())
        return found

    def _hint(self) -> str:
        """What a word was perhaps meant as, between two conditions."""
        word = self._word.text.lower()
        if word in {"and", "or"}:
            return f"; did you mean `{word}`?"
        if self._word.kind is Kind.EQUAL:
            return "; did you mean `==`?"
        return ""

    def _either(self) -> Boolean:
        at, members = self._place(), [self._both()]
        while self._word.kind is Kind.OR:
            self._at += 1
            members.append(self._both())
        return members[0] if len(members) == 1 else Or(at, tuple(members))

    def _both(self) -> Boolean:
        at, members = self._place(), [self._boolean()]
        while self._word.kind is Kind.AND:
            self._at += 1
            members.append(self._boolean())
        return members[0] if len(members) == 1 else And(at, tuple(members))

    def _boolean(self) -> Boolean:
        at = self._place()
        if self._word.kind is not Kind.NOT:
            return self._plain()
        self._at += 1
        if self._word.kind is Kind.NOT:
            raise self._error("a condition after `not`; a second `not` needs brackets")
        return Not(at, self._plain())

    def _plain(self) -> Boolean:
        """A comparison, a constant, a converter, or conditions in brackets."""
        if self._word.kind is not Kind.PAREN:
            return self._comparison()
        # A bracket belongs to arithmetic or to conditions, which only what follows tells.
        begin, depth = self._at, self._depth
        try:
            return self._comparison()
        except ConditionError as error:
            as_value, reached = error, self._at
        self._at, self._depth = begin, depth
        try:
            return self._in_brackets()
        except ConditionError:
            if self._at < reached:
                raise as_value from None
            raise

    def _in_brackets(self) -> Boolean:
        self._at += 1
        self._deeper()
        found = self._either()
        if not self._is(")"):
            raise self._error("`and`, `or` or `)`" + self._hint())
        self._at += 1
        self._depth -= 1
        return found

    def _comparison(self) -> Boolean:
        at = self._place()
        left = self._value()
        if self._word.kind is Kind.COMPARE:
            operator = self._next().text
            return Comparison(at, operator, left, self._value())
        if isinstance(left, Literal) and isinstance(left.value, bool):
            return Constant(at, left.value)
        if isinstance(left, Call):
            return Holds(at, left)
        raise self._error(_COMPARISON + self._wanted(left))

    def _wanted(self, left: Value) -> str:
        """What to write in place of a value that stands alone, or before a wrong operator."""
        if self._word.kind is Kind.EQUAL:
            return "; did you mean `==`?"
        if self._word.text in _WORDS:
            return f"; {_WORDS[self._word.text]}"
        if self._word.kind is Kind.PLUS_MINUS and isinstance(left, Literal):
            return '; texts are joined with Concat([...], "")'
        if isinstance(left, Path) and self._word.kind in {Kind.END, Kind.AND, Kind.OR, Kind.CLOSE_PAREN}:
            return "; whether a value exists is asked with `!= nil`"
        return ""

    # -- values

    def _value(self) -> Value:
        at, word = self._place(), self._word
        if word.kind in _BEGINS_MATH or (word.kind is Kind.UPPER and self._name_of_call()):
            return self._sum()
        if self._is("["):
            return self._list()
        if word.kind is Kind.BRACE:
            return self._map()
        if word.kind is Kind.UPPER:
            return self._symbol()
        if word.kind not in {Kind.NIL, Kind.STRING, Kind.BOOL, Kind.BYTES}:
            raise self._error(_VALUE + self._doubled())
        value: str | bool | bytes | None = None
        if word.kind is Kind.STRING:
            value = unquoted(word)
        elif word.kind is Kind.BOOL:
            value = word.text == "true"
        elif word.kind is Kind.BYTES:
            if len(word.text) % 2:
                raise word.error("an even number of digits after 0x: a byte has two")
            value = bytes.fromhex(word.text[2:])
        self._at += 1
        return Literal(at, value)

    def _doubled(self) -> str:
        """What is meant by two operators one after the other."""
        before = self._words[self._at - 1] if self._at else None
        if before is None or before.kind is not Kind.COMPARE:
            return ""
        meant = {"===": "==", "!==": "!=", "<>": "!=", "=>": ">=", "=<": "<="}.get(before.text + self._word.text)
        return f"; did you mean `{meant}`?" if meant else ""

    def _symbol(self) -> Symbol:
        at, word = self._place(), self._next()
        if self._word.kind is Kind.LOWER:  # half of a function's name
            whole = word.text
            for part in self._words[self._at :]:
                if part.kind not in {Kind.LOWER, Kind.UPPER} or part.at != word.at + len(whole):
                    break
                whole += part.text
            meant = f"{whole}()" if whole in FUNCTIONS else _MEANT.get(whole, "")
            hint = f"; did you mean `{meant}`?" if meant else suggestion(whole)
            message = (
                f"found {shown(whole)}, expected an enum like STATUS_CODE_ERROR, or a function with its brackets{hint}"
            )
            raise ConditionError(word.line, word.column, message)
        return Symbol(at, word.text)

    def _list(self) -> ListOf:
        at, items = self._place(), list[Value]()
        self._at += 1
        self._deeper()
        while not self._is("]"):
            items.append(self._value())
            if self._is("]"):
                break
            self._expect(",", "`,` or `]`")
            if self._is("]"):
                raise self._error(_VALUE)
        self._at += 1
        self._depth -= 1
        return ListOf(at, tuple(items))

    def _map(self) -> MapOf:
        at, items = self._place(), list[tuple[str, Value]]()
        self._at += 1
        self._deeper()
        while self._word.kind is not Kind.CLOSE_BRACE:
            if self._word.kind is not Kind.STRING:
                raise self._error("a key in double quotes")
            key = unquoted(self._next())
            self._expect(":")
            items.append((key, self._value()))
            if self._is(","):
                self._at += 1
        self._at += 1
        self._depth -= 1
        return MapOf(at, tuple(items))

    # -- arithmetic

    def _sum(self) -> Value:
        at, found = self._place(), self._product()
        while self._word.kind is Kind.PLUS_MINUS:
            operator = self._operator()
            found = Arithmetic(at, operator, found, self._product())
        return found

    def _operator(self) -> str:
        self._operators += 1
        if self._operators > MAX_OPERATORS:
            raise self._word.error(f"at most {MAX_OPERATORS} of + - * /")
        return self._next().text

    def _product(self) -> Value:
        at, found = self._place(), self._factor()
        while self._word.kind is Kind.TIMES:
            operator = self._operator()
            found = Arithmetic(at, operator, found, self._factor())
        return found

    def _factor(self) -> Value:
        at, sign = self._place(), ""
        if self._word.kind is Kind.PLUS_MINUS:
            sign = self._next().text
        is_plain = self._word.kind in {Kind.INT, Kind.FLOAT}
        found = self._operand()
        if sign != "-":
            return found
        if is_plain and isinstance(found, Literal) and isinstance(found.value, (int, float)):
            return Literal(at, -found.value)
        return Negative(at, found)

    def _operand(self) -> Value:
        word = self._word
        if word.kind is Kind.PAREN:
            self._at += 1
            self._deeper()
            found = self._sum()
            self._expect(")", "an operator or `)`")
            self._depth -= 1
            return found
        if word.kind is Kind.INT:
            return self._int()
        if word.kind is Kind.FLOAT:
            return self._float()
        if word.kind is Kind.UPPER and self._name_of_call():
            return self._call()
        if word.kind is Kind.LOWER:
            return self._path()
        raise self._error("a number, a path or a function")

    def _int(self) -> Literal:
        at, word = self._place(), self._word
        # Go's ParseInt with base 0: a number that begins with 0 is octal.
        is_octal = len(word.text) > 1 and word.text[0] == "0"
        if is_octal and not set(word.text) <= set("01234567"):
            raise word.error("octal digits after a leading 0")
        if len(word.text) > 64:  # more than any int64 has, and Python refuses thousands
            raise word.error(f"an int of at most {_MAX_INT}")
        value = int(word.text, 8 if is_octal else 10)
        if value > _MAX_INT:
            raise word.error(f"an int of at most {_MAX_INT}")
        self._at += 1
        return Literal(at, value)

    def _float(self) -> Literal:
        at, word = self._place(), self._word
        value = float(word.text)
        if math.isinf(value):
            raise word.error("a float of 64 bits")
        self._at += 1
        return Literal(at, value)

    # -- names

    def _name_of_call(self) -> str:
        """The name of a function, if one begins here with its bracket; else nothing. Blanks inside count for nothing."""
        at, name = self._at, ""
        while self._words[at].kind is Kind.UPPER or (name and self._words[at].kind is Kind.LOWER):
            name += self._words[at].text
            at += 1
        return name if self._words[at].kind is Kind.PAREN else ""

    def _call(self) -> Call:
        at, name = self._place(), self._name_of_call()
        while self._word.kind is not Kind.PAREN:
            self._at += 1
        self._at += 1
        self._deeper()
        arguments = list[Argument]()
        if not self._is(")"):
            arguments.append(self._argument())
            while self._is(","):
                self._at += 1
                arguments.append(self._argument())
        self._expect(")", f"`,` or `)` after an argument of {name}")
        self._depth -= 1
        return Call(at, name, tuple(arguments), self._keys())

    def _argument(self) -> Argument:
        at, begin, name = self._place(), self._at, ""
        while self._word.kind is Kind.LOWER or (name and self._word.kind is Kind.UPPER):
            name += self._next().text
        if name and self._word.kind is Kind.EQUAL:
            self._at += 1
        else:
            self._at, name = begin, ""
        return Argument(at, name, self._value())

    def _path(self) -> Path:
        at = self._place()
        self._refuse_small_function()
        sections = [self._section()]
        while self._is("."):
            self._at += 1
            if self._word.kind is not Kind.LOWER:
                raise self._error("a name after the dot")
            sections.append(self._section())
        return Path(at, tuple(sections))

    def _refuse_small_function(self) -> None:
        at, name = self._at, ""
        while self._words[at].kind in {Kind.LOWER, Kind.UPPER}:
            name += self._words[at].text
            at += 1
        if self._words[at].kind is Kind.PAREN:
            hint = "; a condition only asks, and changes nothing" if name in _EDITORS else suggestion(name)
            message = f"found {shown(name)}, expected a function, whose name begins with a capital letter{hint}"
            raise ConditionError(self._word.line, self._word.column, message)

    def _section(self) -> Section:
        at, word = self._place(), self._next()
        return Section(at, word.text, self._keys())

    def _keys(self) -> tuple[Value, ...]:
        keys = list[Value]()
        while self._is("["):
            self._at += 1
            self._deeper()
            if self._word.kind is Kind.STRING:
                keys.append(Literal(self._place(), unquoted(self._next())))
            elif self._word.kind is Kind.INT:
                keys.append(self._int())
            elif self._word.kind in _BEGINS_MATH or self._word.kind is Kind.UPPER:
                keys.append(self._sum())
            else:
                raise self._error("a key in double quotes, an index or a path")
            self._expect("]")
            self._depth -= 1
        return tuple(keys)
