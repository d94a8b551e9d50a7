"""Every single mistake that a file could have: where, and what stands there instead."""

from __future__ import annotations

import ast
import copy
import hashlib
from pathlib import Path

import attrs

FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip
RENAMED = {"min": "max", "max": "min", "any": "all", "all": "any"}
# What these say is for people to read, and no law.
UNTOUCHED = ("__repr__", "__str__")


@attrs.frozen
class Mutation:
    """One mistake: the bytes from ``begin`` to ``end`` of a file are ``after`` instead of ``before``."""

    path: str
    function: str  # its qualified name; empty outside of functions
    kind: str
    line: int
    begin: int
    end: int
    before: str
    after: str
    place: int  # of those that are alike in all of the above but where they stand: the how manyth

    @property
    def name(self) -> str:
        """The same, whatever else changes in the file; so a seed chooses the same ones in the next version, too."""
        return f"{self.path}:{self.function or 'module'}: {self.kind} #{self.place}: {self.before} -> {self.after}"

    def applied(self, source: bytes) -> bytes:
        return source[: self.begin] + self.after.encode() + source[self.end :]


def chosen(mutations: list[Mutation], count: int, seed: int) -> list[Mutation]:
    """As many of them, by the seed and their names alone."""
    return sorted(mutations, key=lambda each: hashlib.sha256(f"{seed} {each.name}".encode()).digest())[:count]


def mutations_of(root: Path, folders: list[str]) -> list[Mutation]:
    """All of these folders and files, in the order of files and lines."""
    paths = [path for each in folders for path in sorted((root / each).rglob("*.py")) or [root / each]]
    return [each for path in paths for each in mutations_in(str(path.relative_to(root)), path.read_bytes())]


def mutations_in(path: str, source: bytes) -> list[Mutation]:
    """All of one file."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return finder.found


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.found: list[Mutation] = []
        self._path = path
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._scopes: list[str] = []
        self._alike: dict[str, int] = {}

    # -- where

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any("Protocol" in ast.unparse(base) for base in node.bases):
            return
        self._scopes.append(node.name)
        self.generic_visit(node)
        self._scopes.pop()

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in UNTOUCHED:
            return
        self._scopes.append(node.name)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._scopes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Python 3.11 does not say where in the file its parts are."""

    # -- what

    def _mistake(self, node: ast.expr | ast.stmt, kind: str, after: str) -> None:
        begin = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[(node.end_lineno or node.lineno) - 1] + (
            node.end_col_offset or 0
        )  # both known: it was parsed
        before = " ".join(self._source[begin:end].decode().split())
        function = ".".join(self._scopes)
        alike = f"{function} {kind} {before} {after}"
        place = self._alike[alike] = self._alike.get(alike, 0) + 1
        self.found.append(Mutation(self._path, function, kind, node.lineno, begin, end, before, after, place))

    def visit_Compare(self, node: ast.Compare) -> None:
        for number, operator in enumerate(node.ops):
            other = copy.deepcopy(node)
            other.ops[number] = FLIPPED[type(operator)]()
            self._mistake(node, "comparison", f"({ast.unparse(other)})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = copy.deepcopy(node)
        other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._mistake(node, "and/or", f"({ast.unparse(other)})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._mistake(node, "not dropped", f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in SWAPPED and not _is_text(node.left) and not _is_text(node.right):
            other = copy.deepcopy(node)
            other.op = SWAPPED[type(node.op)]()
            self._mistake(node, "operator", f"({ast.unparse(other)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._mistake(node, "constant", str(not node.value))
        elif isinstance(node.value, int):
            self._mistake(node, "off by one", str(node.value + 1))
        elif isinstance(node.value, float):
            self._mistake(node, "constant", repr(node.value * 10 or 1.0))

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in RENAMED:
            self._mistake(node.func, "call swapped", RENAMED[node.func.id])
        if not _is_log(node):
            self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self._negate(node.test)
            self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.generic_visit(node)  # a loop that is never entered, or never left, proves little

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.UnaryOp | ast.Compare):  # those have their own
            self._mistake(test, "negated", f"(not ({ast.unparse(test)}))")

    # -- what is left out

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Await) and not _is_log(node.value):
            self._mistake(node, "removed", "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._mistake(node, "removed", "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        # Without the assignment of a name what follows crashes; an attribute keeps what it had.
        if self._is_inside() and all(isinstance(each, ast.Attribute | ast.Subscript) for each in node.targets):
            self._mistake(node, "removed", "pass")
        self.generic_visit(node)

    def _is_inside(self) -> bool:
        return bool(self._scopes) and self._scopes[-1] != "__init__"

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self._mistake(node, "removed", "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._mistake(node, "removed", "pass")
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._mistake(node, "removed", "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._mistake(node, "removed", "pass")

    def visit_Delete(self, node: ast.Delete) -> None:
        self._mistake(node, "removed", "pass")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _is_log(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
