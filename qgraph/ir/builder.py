"""Make checked nodes: `build.conv(x, w, stride=2)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

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

    `build.<dialect>.<op>(*operands, **attrs)` gives the result, `node` the node; the dialect `nn` need not be named.
    An integer stands for a tuple of sizes. Where the op leaves the element type of its results free,
    `element=(dtype, quant)` sets it. Raises TypeMismatch, with the origins, for what the op's definition does not
    admit.

    >>> import numpy as np
    >>> from qgraph.ir import Graph, TensorType
    >>> graph = Graph("g")
    >>> x = graph.add_input("x", TensorType(("N", 3, 8, 8)))
    >>> build = Builder(graph)
    >>> w = build.constant(np.zeros((4, 3, 3, 3), np.float32), "w")
    >>> print(build.relu(build.conv(x, w, stride=2, pads=1)).type)
    f32[N,4,4,4]
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

    def constant(
        self, data: Array, name: str = "const", quant: QuantParams | None = None, dtype: str | None = None
    ) -> Value:
        """A new constant of the graph; `dtype`: its storage type where it is not the array's own ("i4")."""
        return self.graph.add_constant(data, name, quant, dtype)

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
            complete, inferred = definition.checked(operands, attrs)
            types: Sequence[TensorType] = inferred
        except QGraphError as error:
            where = tuple(f"origin  {origin.readable}" for origin in self.origins)
            raise TypeMismatch(error.what, where=(*error.where, *where), help=error.help) from None
        if element is not None:
            types = [replace(type, dtype=element[0], quant=element[1]) for type in types]
        node = self.graph.insert(op, operands, complete, types, before=self.before, origins=self.origins, names=names)
        self.made.append(node)
        return node

    def value(
        self,
        op: str,
        operands: Sequence[Value | None],
        attrs: dict[str, Attr],
        *,
        element: Element | None = None,
        names: Sequence[str] = (),
    ) -> Value:
        """The result of a node of one result, as `node` inserts it."""
        return self.node(op, operands, attrs, element=element, names=names).result


class _Dialect:
    """The ops of a dialect; called, the op of that name in the dialect `nn`."""

    def __init__(self, builder: Builder, name: str) -> None:
        self._builder = builder
        self._name = name

    def __getattr__(self, op: str) -> Callable[..., Value]:
        return partial(_make, self._builder, f"{self._name}.{op}")

    def __call__(self, *operands: Value | None, element: Element | None = None, name: str = "", **attrs: Attr) -> Value:
        return _make(self._builder, f"nn.{self._name}", *operands, element=element, name=name, **attrs)


def _make(
    builder: Builder, op: str, *operands: Value | None, element: Element | None = None, name: str = "", **attrs: Attr
) -> Value:
    return builder.value(op, operands, attrs, element=element, names=(name,) if name else ())
