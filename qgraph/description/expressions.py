"""Arithmetic over names in a description: "2 * maximum(input_scale, second_scale) / (2**20 * output_scale)"."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qgraph.errors import InputError
from qgraph.ir import Array

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "maximum": np.maximum,
    "minimum": np.minimum,
    "absolute": np.abs,
    "floor": lambda x: np.floor(x).astype(np.int64),
    "ceil": lambda x: np.ceil(x).astype(np.int64),
    "half_even": lambda x: np.rint(x).astype(np.int64),
    "half_up": lambda x: np.floor(np.asarray(x, np.float64) + 0.5).astype(np.int64),
    "bits": lambda x: np.frexp(np.asarray(x, np.float64))[1].astype(np.int64),  # bits(n): those that n >= 0 needs
}
ALLOWED = f"+ - * / // % ** << >>, numbers, names, and the functions {', '.join(FUNCTIONS)}"
LARGEST_POWER = 4096


@dataclass(frozen=True)
class Expression:
    """An expression, checked; equal texts are equal."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Expression:
        """The expression of a text; raises InputError for anything but arithmetic.

        >>> Expression.parse("1 << (shift - 1)").names
        ('shift',)
        """
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError):
            raise InputError(f"{text!r} is no expression", help=ALLOWED) from None
        made = cls(text)
        for node in ast.walk(tree):
            made._check(node)
        return made

    def _check(self, node: ast.AST) -> None:
        called = isinstance(node, ast.Call)
        fine = isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Name, ast.Load, *OPERATORS)) or called
        if isinstance(node, ast.Constant):
            fine = isinstance(node.value, (int, float)) and not isinstance(node.value, bool) and abs(node.value) < 2**63
        if isinstance(node, ast.Call):
            fine = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
        if not fine:
            raise InputError(f"{self.text!r} is more than arithmetic", help=ALLOWED)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it reads, in order."""
        nodes = ast.walk(ast.parse(self.text, mode="eval"))
        found = [node.id for node in nodes if isinstance(node, ast.Name) and node.id not in FUNCTIONS]
        return tuple(dict.fromkeys(found))

    def evaluate(self, known: Mapping[str, Any]) -> Array:
        """Its value: int64 of integers, floats in the type of those that are known; raises InputError."""
        with np.errstate(all="ignore"):
            made = np.asarray(self._value(ast.parse(self.text, mode="eval").body, known))
        if made.dtype.kind == "f" and not np.isfinite(made).all():
            raise InputError(f"{self.text} is {made.reshape(-1)[0]}")
        return made if made.dtype.kind == "f" else made.astype(np.int64)

    def _value(self, node: ast.AST, known: Mapping[str, Any]) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in known:
                raise InputError(f"{self.text}: there is no {node.id}", help=f"known here: {', '.join(known)}")
            return known[node.id]
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            return FUNCTIONS[node.func.id](*(self._value(each, known) for each in node.args))
        if isinstance(node, ast.UnaryOp):
            return OPERATORS[type(node.op)](self._value(node.operand, known))
        assert isinstance(node, ast.BinOp)
        left, right = self._value(node.left, known), self._value(node.right, known)
        if isinstance(node.op, (ast.Pow, ast.LShift)) and np.any(np.abs(right) > LARGEST_POWER):
            raise InputError(f"{self.text}: a power above {LARGEST_POWER}")
        try:
            return OPERATORS[type(node.op)](left, right)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            raise InputError(f"{self.text}: {error}") from None
