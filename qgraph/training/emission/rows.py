"""The table of ops, and how a row is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import fx

from qgraph.ir import Node, op_def

if TYPE_CHECKING:
    from qgraph.training.emission.emitter import Emitter

Emission = Callable[["Emitter", Node], fx.Node]

ROWS: dict[str, Emission] = {}


def emits(*names: str) -> Callable[[Emission], Emission]:
    """Register the row of some ops."""

    def register(row: Emission) -> Emission:
        ROWS.update(dict.fromkeys(names, row))
        return row

    return register


def calls(name: str, function: Callable[..., Any], *attributes: str) -> None:
    """Register an op that is one call of a function with all operands, then these attributes."""

    def row(at: Emitter, node: Node) -> fx.Node:
        operands = at.operands(node, len(op_def(node.op).operands))
        return at.activated(node, at.call(function, [*operands, *(node.attrs[each] for each in attributes)]))

    ROWS[name] = row


def floats(node: Node, *names: str) -> tuple[float, ...]:
    """Attributes as numbers; None is 0."""
    return tuple(float(node.attrs[name] or 0) for name in names)
