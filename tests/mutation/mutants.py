"""The mutants of a module: its source with one small fault each.

Left out is what no test of behaviour can see: annotations, docstrings, assertions (they are for the type checker),
the words inside f-strings, `strict=True` of `zip`, the options of `@dataclass`, and arguments that mean the same
(`ALIKE`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.MatMult: ("@", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "rint": "floor", "floor": "rint", "ceil": "floor"}
NAMES |= {"minimum": "maximum", "maximum": "minimum", "amin": "amax", "amax": "amin", "intersection": "union"}
ALIKE = (("reshape", "-1", "(1)"), (".operand", "0", "(0 + 1)"))
"""Function, argument, its only mutant: NumPy takes any negative size for -1; the last operand may be the first."""
NEGATED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
"""Comparisons whose own mutant is their negation."""


@dataclass(frozen=True)
class Mutant:
    """One fault: `before` at bytes `start` to `end` of the module becomes `after`; `place` is the function around."""

    module: str
    line: int
    place: str
    start: int
    end: int
    before: str
    after: str

    @property
    def change(self) -> str:
        """What is written instead of what, in one line: with the module and the place, the mutant's name."""
        return f"{_in_short(self.before)} -> {_in_short(self.after)}"

    def __str__(self) -> str:
        return f"{self.module}:{self.line} in {self.place or 'the module'}: {self.change}"

    def applied(self, source: bytes) -> bytes:
        """The module with the fault in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def _in_short(text: str) -> str:
    return " ".join(text.split())


def mutants(module: str, source: bytes) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    return sorted(_Finder(module, source).found, key=lambda each: (each.line, each.start, each.after))


class _Finder(ast.NodeVisitor):
    def __init__(self, module: str, source: bytes) -> None:
        self.module, self.source = module, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.place: list[str] = []
        self.found: list[Mutant] = []
        self.visit(ast.parse(source))

    def add(self, node: ast.AST, after: str) -> None:
        start, end = self._span(node)
        before = self.source[start:end].decode()
        self.found.append(Mutant(self.module, node.lineno, ".".join(self.place), start, end, before, after))  # type: ignore[attr-defined]

    def _span(self, node: ast.AST) -> tuple[int, int]:
        first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
        return self.starts[first] + node.col_offset, self.starts[last] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self.source[start:end].decode()

    # ---- where to look

    def generic_visit(self, node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)

    def visit_Assert(self, node: ast.Assert) -> None: ...

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":
            self.generic_visit(node)

    def _scope(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        self.place.append(node.name)
        node.decorator_list = [each for each in node.decorator_list if "dataclass" not in self.text(each)]
        self.generic_visit(node)
        self.place.pop()

    visit_ClassDef = _scope
    visit_FunctionDef = _scope

    # ---- what to change

    def visit_If(self, node: ast.If) -> None:
        if self.text(node.test) != "TYPE_CHECKING":
            self._negate(node.test)
            self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        own = isinstance(test, ast.UnaryOp) or (isinstance(test, ast.Compare) and isinstance(test.ops[0], NEGATED))
        if not own:
            self.add(test, f"not ({self.text(test)})")

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for index, operator in enumerate(node.ops):
            self._swap(node, operator, sides[index], sides[index + 1])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if self.place or not isinstance(node.op, ast.BitOr):  # a type, at the top
            self._swap(node, node.op, node.left, node.right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._swap(node, node.op, left, right)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._drop(node)
        self._swap(node, node.op, node.target, node.value)
        self.generic_visit(node)

    def _swap(self, whole: ast.AST, operator: ast.AST, left: ast.AST, right: ast.AST) -> None:
        """Another operator between two expressions."""
        old, new = OPERATORS[type(operator)]
        (start, end), (_, middle), (after, _) = self._span(whole), self._span(left), self._span(right)
        first, between, last = (self.source[a:b].decode() for a, b in ((start, middle), (middle, after), (after, end)))
        if old in between:
            self.add(whole, f"{first}{between.replace(old, new, 1)}{last}")

    def visit_Call(self, node: ast.Call) -> None:
        function = self.text(node.func)
        for alike, text, after in ALIKE:
            if function.endswith(alike):
                same = [each for each in node.args if self.text(each) == text]
                node.args = [each for each in node.args if each not in same]
                for each in same:
                    self.add(each, after)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.Not, ast.USub)):
            self.add(node, f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(node, str(not node.value))
        elif isinstance(node.value, (int, float)):
            for step in (1, -1):
                self.add(node, f"({node.value} + {step})" if step > 0 else f"({node.value} - 1)")

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and node.id in NAMES:
            self.add(node, NAMES[node.id])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load) and node.attr in NAMES:
            self.add(node, f"{self.text(node.value)}.{NAMES[node.attr]}")
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and self.text(node.value) not in ("None", "False"):  # as conditions they are one
            self.add(node, "return None")
        self.generic_visit(node)

    def _drop(self, node: ast.stmt) -> None:
        if self.place:
            self.add(node, "pass")

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self._drop(node)
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if self.text(node) != "raise NotImplementedError":  # subclasses say what is done
            self._droppable(node)

    def _droppable(self, node: ast.stmt) -> None:
        self._drop(node)
        self.generic_visit(node)

    visit_Continue = visit_Break = visit_Delete = _droppable

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(
            not isinstance(target, (ast.Name, ast.Tuple)) for target in node.targets
        ):  # a name that is missing fails at once
            self._drop(node)
        self.generic_visit(node)


def unlisted(found: list[Mutant], equivalent: list[dict[str, str]]) -> Iterator[Mutant]:
    """The mutants that are not listed as equivalent."""
    listed = {(each["module"], each["place"], each["change"]) for each in equivalent}
    return (each for each in found if (each.module, each.place, each.change) not in listed)
