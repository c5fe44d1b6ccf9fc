"""A builder that computes what constants alone make, and spares elementwise ops the broadcasting that they do.

`torch.ones_like(x) * 20` is a constant, also where the batch of x is symbolic: then it is expanded, as the ones were.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, cast

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import expanded, reshaped
from qgraph.ir import Array, Attr, Builder, Graph, Node, Value, op_def
from qgraph.ir.types import Shape, dim_factors

SIZES = (1, 2, 3)
"""Symbolic sizes for which a result must be the same, but for its repetition, to be a constant for all of them: an op
of `nn` has no way to ask for a certain size."""


class ExpandedConstants(Builder):
    """A builder that inserts nothing for what is known; constants of `kept` names, parameters, are not computed
    with, but what they and expanded constants make is expanded behind, not before."""

    def __init__(self, graph: Graph, kept: Container[str]) -> None:
        super().__init__(graph)
        self._kept = kept

    def value(self, op: str, operands: Sequence[Value | None], attrs: dict[str, Attr], **words: Any) -> Value:
        """The result of the node, or the constant that it would compute, expanded where its operands are."""
        given = [value for value in operands if value is not None]
        if op == "nn.index" and (fewer := _indices_of_source(self, given, attrs)):
            (type,) = op_def(op).checked(operands, attrs)[1]
            return expanded(self, self.value(op, fewer, attrs, **words), type.shape)
        if op_def(op).traits.acts_in_training or not given or not all(_source(value).is_constant for value in given):
            return super().value(op, self._broadcasting(op, operands, attrs), attrs, **words)
        if any(_source(value).name in self._kept for value in given):
            return self._of_parameters(op, operands, attrs, **words)
        node = self.node(op, operands, attrs, **words)
        first, *others = (self._evaluated(node, size) for size in SIZES)
        if not all(_repeats(first, other) for other in others):
            return node.result
        shape = node.result.type.shape
        node.erase()
        return expanded(self, self.constant(first, op.partition(".")[2]), shape)

    def _of_parameters(self, op: str, operands: Sequence[Value | None], attrs: dict[str, Attr], **words: Any) -> Value:
        """The result of the node, or its expansion from what it makes of the operands as they were before theirs."""
        node = self.node(op, operands, attrs, **words)
        sources = [value and _source(value) for value in operands]
        if op == "nn.expand" or sources == [*operands]:
            return node.result
        try:
            narrow = self.node(op, sources, attrs, **words)
        except TypeMismatch:
            return node.result
        made, wide = self._evaluated(narrow, 1), (self._evaluated(node, size) for size in SIZES)
        dropped, kept = (node, narrow) if all(_repeats(made, each) for each in wide) else (narrow, node)
        shape = node.result.type.shape
        dropped.erase()
        return expanded(self, kept.result, shape)

    def _evaluated(self, node: Node, size: int) -> Array:
        """The node's result where every symbolic size is `size`, and parameters are what they may be trained to."""
        arrays = [
            None if value is None else np.broadcast_to(self._data(_source(value)), _bound(value.type.shape, size))
            for value in node.operands
        ]
        with np.errstate(all="ignore"):
            (array,) = op_def(node.op).evaluate(node, arrays)
        return array.astype(node.result.type.numpy, copy=False)

    def _data(self, constant: Value) -> Array:
        if constant.name not in self._kept or not constant.type.is_float:
            return constant.data
        return np.random.default_rng(0).normal(size=constant.data.shape).astype(constant.data.dtype)

    def _broadcasting(
        self, op: str, operands: Sequence[Value | None], attrs: dict[str, Attr]
    ) -> Sequence[Value | None]:
        """The operands without the expansions that the op does by itself."""
        definition = op_def(op)
        places = range(len(operands)) if definition.traits.elementwise else definition.operand_indices("mask")
        for index in places:
            value = operands[index] if index < len(operands) else None
            if value is None or value.producer is None or value.producer.op != "nn.expand":
                continue
            fewer = [*operands[:index], _source(value), *operands[index + 1 :]]
            try:
                if definition.checked(fewer, attrs)[1] == definition.checked(operands, attrs)[1]:
                    operands = fewer
            except TypeMismatch:
                continue
        return operands


def _indices_of_source(build: Builder, operands: Sequence[Value], attrs: Mapping[str, Attr]) -> list[Value]:
    """The operands of `nn.index` that read what the first one is expanded from: along the axes that this repeats any
    index reads the same; none where it repeats no axis that is indexed."""
    x, *indices = operands
    source = _source(x)
    own = (1,) * (x.type.rank - source.type.rank) + source.type.shape
    axes = cast("tuple[int, ...]", attrs["axes"])
    repeated = [own[axis] == 1 != x.type.shape[axis] for axis in axes]
    if not any(repeated):
        return []
    first = [
        build.constant(np.zeros((1,) * index.type.rank, np.int64), "first") if any_index else index
        for index, any_index in zip(indices, repeated, strict=True)
    ]
    return [reshaped(build, source, own), *first]


def _source(value: Value) -> Value:
    """What a value is expanded from, or itself."""
    while value.producer is not None and value.producer.op == "nn.expand":
        value = value.producer.operand(0)
    return value


def _bound(shape: Shape, size: int) -> tuple[int, ...]:
    return tuple(factor * size ** len(symbols) for factor, symbols in map(dim_factors, shape))


def _repeats(first: Array, other: Array) -> bool:
    """Whether an array is another repeated along dimensions of size 1, and along new ones before its own."""
    own = (1,) * (other.ndim - first.ndim) + first.shape
    fits = len(own) == other.ndim and all(a in (1, b) for a, b in zip(own, other.shape, strict=True))
    floats = first.dtype.kind == "f"
    return fits and np.array_equal(np.broadcast_to(first, other.shape), other, equal_nan=floats)
