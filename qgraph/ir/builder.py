"""Make checked nodes: `build.nn.conv(x, w, b, stride=(1, 1))`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qgraph.errors import QGraphError, TypeMismatch
from qgraph.ir.graph import Graph
from qgraph.ir.node import Attr, Node, Value
from qgraph.ir.op import op_def
from qgraph.ir.origin import Origin
from qgraph.ir.types import Array, QuantParams, TensorType

Element = tuple[str, QuantParams | None]
"""Storage dtype and quantization parameters of a result that the op leaves free."""


class Builder:
    """Inserts nodes into `graph`, before the node `before` or at the end; they carry `origins`.

    `build.<dialect>.<op>(*operands, **attrs)` gives the result (a tuple of several). Where the op leaves the element
    type of its results free, `element=(dtype, quant)` sets it. Raises TypeMismatch, with the origins, for what the op's
    definition does not admit.
    """

    def __init__(self, graph: Graph, before: Node | None = None, origins: tuple[Origin, ...] = ()) -> None:
        self.graph = graph
        self.before = before
        self.origins = origins
        self.made: list[Node] = []

    def __getattr__(self, dialect: str) -> _Dialect:
        if dialect.startswith("_"):
            raise AttributeError(dialect)
        return _Dialect(self, dialect)

    def constant(self, data: Array, name: str = "const", quant: QuantParams | None = None) -> Value:
        """A new constant of the graph."""
        return self.graph.add_constant(data, name, quant)

    def node(
        self,
        op: str,
        operands: Sequence[Value | None],
        attrs: dict[str, Attr],
        *,
        element: Element | None = None,
        names: Sequence[str] = (),
    ) -> Node:
        """Insert a node: attributes completed, types inferred and checked."""
        definition = op_def(op)
        try:
            complete = definition.complete(attrs)
            types: Sequence[TensorType] = definition.infer(operands, complete)
        except QGraphError as error:
            where = tuple(f"origin  {origin.readable}" for origin in self.origins)
            raise TypeMismatch(error.what, where=(*error.where, *where), help=error.help) from None
        if element is not None:
            types = [replace(type, dtype=element[0], quant=element[1]) for type in types]
        node = self.graph.insert(op, operands, complete, types, before=self.before, origins=self.origins, names=names)
        self.made.append(node)
        return node


class _Dialect:
    def __init__(self, builder: Builder, name: str) -> None:
        self._builder = builder
        self._name = name

    def __getattr__(self, op: str) -> Callable[..., Value]:
        def make(*operands: Value | None, element: Element | None = None, name: str = "", **attrs: Attr) -> Value:
            names = (name,) if name else ()
            return self._builder.node(f"{self._name}.{op}", operands, attrs, element=element, names=names).result

        return make
