"""A builder that spares elementwise ops what broadcasting does, and computes what constants alone make.

`torch.ones_like(x) * 20` is a constant, also where the batch of x is symbolic: then it is expanded, as the ones were.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import expanded
from qgraph.ir import Attr, Builder, Graph, Value, op_def


class ExpandedConstants(Builder):
    """A builder that keeps ops elementwise out of `nn.expand`; constants of `kept` names, parameters, are not
    computed with."""

    def __init__(self, graph: Graph, kept: Container[str]) -> None:
        super().__init__(graph)
        self._kept = kept

    def value(self, op: str, operands: Sequence[Value | None], attrs: dict[str, Attr], **words: Any) -> Value:
        """The result of the node, or the constant that it would compute, expanded where its operands are."""
        if not op_def(op).traits.elementwise:
            return super().value(op, operands, attrs, **words)
        _, (type,) = op_def(op).checked(operands, attrs)
        sources = [None if value is None else _source(value) for value in operands]
        if not all(source is None or (source.is_constant and source.name not in self._kept) for source in sources):
            return super().value(op, self._broadcasting(op, operands, attrs), attrs, **words)
        node = self.node(op, sources, attrs, **words)
        (array,) = op_def(op).evaluate(node, [None if source is None else source.data for source in sources])
        node.erase()
        return expanded(self, self.constant(array, op.partition(".")[2]), type.shape)

    def _broadcasting(
        self, op: str, operands: Sequence[Value | None], attrs: dict[str, Attr]
    ) -> Sequence[Value | None]:
        """The operands without the expansions that the op does by itself."""
        _, types = op_def(op).checked(operands, attrs)
        for index, value in enumerate(operands):
            if value is None or value.producer is None or value.producer.op != "nn.expand":
                continue
            fewer = [*operands[:index], _source(value), *operands[index + 1 :]]
            try:
                if op_def(op).checked(fewer, attrs)[1] == types:
                    operands = fewer
            except TypeMismatch:
                continue
        return operands


def _source(value: Value) -> Value:
    """What a value is expanded from, or itself."""
    while value.producer is not None and value.producer.op == "nn.expand":
        value = value.producer.operand(0)
    return value
