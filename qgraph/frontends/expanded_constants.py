"""A builder that computes what constants alone make, and spares elementwise ops the broadcasting that they do.

`torch.ones_like(x) * 20` is a constant, also where the batch of x is symbolic: then it is expanded, as the ones were.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import expanded
from qgraph.ir import Array, Attr, Builder, Graph, Node, Value, op_def
from qgraph.ir.types import Shape, dim_factors

SIZES = (1, 2, 3)
"""Symbolic sizes for which a result must be the same, but for its repetition, to be a constant for all of them: an op
of `nn` has no way to ask for a certain size."""


class ExpandedConstants(Builder):
    """A builder that inserts nothing for what is known; constants of `kept` names, parameters, are not computed
    with."""

    def __init__(self, graph: Graph, kept: Container[str]) -> None:
        super().__init__(graph)
        self._kept = kept

    def value(self, op: str, operands: Sequence[Value | None], attrs: dict[str, Attr], **words: Any) -> Value:
        """The result of the node, or the constant that it would compute, expanded where its operands are."""
        traits = op_def(op).traits
        given = [value for value in operands if value is not None]
        if traits.acts_in_training or not given or not all(map(self._is_known, given)):
            fewer = self._broadcasting(op, operands, attrs) if traits.elementwise else operands
            return super().value(op, fewer, attrs, **words)
        node = self.node(op, operands, attrs, **words)
        first, *others = (_evaluated(node, size) for size in SIZES)
        if not all(_repeats(first, other) for other in others):
            return node.result
        shape = node.result.type.shape
        node.erase()
        return expanded(self, self.constant(first, op.partition(".")[2]), shape)

    def _is_known(self, value: Value) -> bool:
        source = _source(value)
        return source.is_constant and source.name not in self._kept

    def _broadcasting(
        self, op: str, operands: Sequence[Value | None], attrs: dict[str, Attr]
    ) -> Sequence[Value | None]:
        """The operands without the expansions that the op does by itself."""
        for index, value in enumerate(operands):
            if value is None or value.producer is None or value.producer.op != "nn.expand":
                continue
            fewer = [*operands[:index], _source(value), *operands[index + 1 :]]
            try:
                if op_def(op).checked(fewer, attrs)[1] == op_def(op).checked(operands, attrs)[1]:
                    operands = fewer
            except TypeMismatch:
                continue
        return operands


def _source(value: Value) -> Value:
    """What a value is expanded from, or itself."""
    while value.producer is not None and value.producer.op == "nn.expand":
        value = value.producer.operand(0)
    return value


def _evaluated(node: Node, size: int) -> Array:
    """The node's result where every symbolic size is `size`."""
    arrays = [
        None if value is None else np.broadcast_to(_source(value).data, _bound(value.type.shape, size))
        for value in node.operands
    ]
    with np.errstate(all="ignore"):
        (array,) = op_def(node.op).evaluate(node, arrays)
    return array.astype(node.result.type.numpy, copy=False)


def _bound(shape: Shape, size: int) -> tuple[int, ...]:
    return tuple(factor * size ** len(symbols) for factor, symbols in map(dim_factors, shape))


def _repeats(first: Array, other: Array) -> bool:
    """Whether an array is another repeated along dimensions of size 1."""
    fits = first.ndim == other.ndim and all(a in (1, b) for a, b in zip(first.shape, other.shape, strict=True))
    floats = first.dtype.kind == "f"
    return fits and np.array_equal(np.broadcast_to(first, other.shape), other, equal_nan=floats)
