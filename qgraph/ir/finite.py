"""Find parameters that nothing can be computed with: NaN, infinities, negative variances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qgraph.errors import InputError
from qgraph.ir.graph import Graph
from qgraph.ir.node import Node, Value
from qgraph.ir.op import OperandSpec, op_def

UNSET = ("scale", "zero_point")
"""Roles of what is NaN until it is calibrated."""


def check_finite(graph: Graph, *, masks: bool = False) -> None:
    """Raise InputError naming every parameter, and every constant among the operands, that is not finite.

    A variance must not be negative either. Infinities among activations are let through: a float graph computes with
    them. With `masks` only -inf is, which leaves out what it is added to: no scale fits another one; and whatever is
    compared, which needs none.
    """
    problems = [
        f"{problem}{_at(node)}"
        for value, (node, spec) in _used(graph).items()
        for problem in _problems(value, spec, masks and _makes_floats(node))
    ]
    if problems:
        count = len(problems)
        raise InputError(
            f"{count} parameter{'s' * (count > 1)} of graph @{graph.name} cannot be computed with",
            where=tuple(problems),
            help="the training that made them diverged, or they were never set: train again, or load other weights",
        )


def _used(graph: Graph) -> dict[Value, tuple[Node, OperandSpec]]:
    """Every float constant with the first node that reads it, and as what; with one that makes floats where it can."""
    used: dict[Value, tuple[Node, OperandSpec]] = {}
    for node in graph.nodes:
        for index, value in enumerate(node.operands):
            spec = op_def(node.op).spec_of(index)
            if value is None or not value.is_constant or not value.type.is_float or spec.role in UNSET:
                continue
            if value not in used or not _makes_floats(used[value][0]):
                used[value] = node, spec
    return used


def _makes_floats(node: Node) -> bool:
    """Whether a node makes any floats: what is compared alone needs no scale."""
    return any(value.type.is_float for value in node.results)


def _problems(value: Value, spec: OperandSpec, masks: bool) -> Iterator[str]:
    with np.errstate(over="ignore", invalid="ignore"):
        whole = bool(np.isfinite(value.data.sum()))  # a hundred million elements are not looked at one by one
    nan, infinite = (np.zeros(1, bool),) * 2 if whole else (np.isnan(value.data), np.isinf(value.data))
    if nan.any():
        yield _problem(value, nan, "NaN")
    if masks and spec.role == "activation":
        infinite = infinite & (value.data > 0)
    if infinite.any() and spec.role != "mask" and (masks or spec.role != "activation"):
        yield _problem(value, infinite, "infinite")
    if spec.role == "statistic" and spec.name == "var" and (value.data < 0).any():
        yield _problem(value, value.data < 0, "a negative variance")


def _problem(value: Value, wrong: np.ndarray, what: str) -> str:
    place = [int(i) for i in np.argwhere(wrong)[0]]
    return f"@{value.name}: {np.count_nonzero(wrong)} of {wrong.size} elements are {what}, the first at {place}"


def _at(node: Node) -> str:
    return f"  in {node.op} at {node.origins[0].readable}" if node.origins else f"  in {node.op}"
