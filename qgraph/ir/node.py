"""Nodes and the SSA values between them. Only `Graph` changes the links; everyone else reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qgraph.errors import InputError
from qgraph.ir.origin import Origin
from qgraph.ir.types import Array, TensorType

if TYPE_CHECKING:
    from qgraph.ir.graph import Graph

Scalar = bool | int | float | str
Attr = Scalar | tuple[Scalar, ...] | None
"""An attribute: a scalar, a tuple of scalars, or None for one that is absent."""


class Value:
    """One SSA value: an input of the graph, a constant (which has `data`), or a result of the node `producer`."""

    __slots__ = ("_data", "_users", "name", "producer", "type")

    def __init__(
        self, type: TensorType, name: str = "", producer: Node | None = None, data: Array | None = None
    ) -> None:
        self.type = type
        self.name = name  # "" for a result that the text numbers
        self.producer = producer
        self._data = data
        self._users: dict[Node, int] = {}  # node -> how many of its operands this value is

    @property
    def is_constant(self) -> bool:
        """Whether the value is known: it has `data`."""
        return self._data is not None

    @property
    def data(self) -> Array:
        """The constant's array (shared between graphs: never written to); raises InputError for another value."""
        if self._data is None:
            raise InputError(f"value {self} is not a constant")
        return self._data

    @property
    def users(self) -> list[Node]:
        """The nodes that read the value, each once, in order of first use; the graph's return is not among them."""
        return [node for node in self._users if node.op != RETURN]

    @property
    def use_count(self) -> int:
        """How many operands and graph outputs are this value."""
        return sum(self._users.values())

    @property
    def has_one_use(self) -> bool:
        """Whether exactly one operand or graph output is this value."""
        return self.use_count == 1

    @property
    def is_output(self) -> bool:
        """Whether the graph returns the value."""
        return any(node.op == RETURN for node in self._users)

    def __repr__(self) -> str:
        return f"{'@' if self.is_constant else '%'}{self.name or '?'}: {self.type}"


RETURN = "return"
"""The op of the node that ends a graph: its operands are the graph's outputs. It is not among `Graph.nodes`."""


class Node:
    """An operation: op name, operands, attributes, results, and the origins it came from."""

    __slots__ = ("_next", "_prev", "attrs", "erased", "graph", "op", "operands", "origins", "results")

    def __init__(self, graph: Graph, op: str, attrs: Mapping[str, Attr], origins: tuple[Origin, ...]) -> None:
        self.graph = graph
        self.op = op
        self.operands: tuple[Value | None, ...] = ()  # None: an optional operand that is absent
        self.attrs: dict[str, Any] = dict(attrs)  # `Attr`s; the op's definition says which
        self.results: tuple[Value, ...] = ()
        self.origins = origins
        self.erased = False
        self._prev: Node = self
        self._next: Node = self

    @property
    def result(self) -> Value:
        """The only result; raises InputError where there are several."""
        if len(self.results) != 1:
            raise InputError(f"{self.op} has {len(self.results)} results, not one")
        return self.results[0]

    @property
    def has_uses(self) -> bool:
        """Whether an operand or a graph output is one of the results."""
        return any(value._users for value in self.results)

    @property
    def inputs(self) -> list[Value]:
        """The operands that are present."""
        return [value for value in self.operands if value is not None]

    def operand(self, index: int) -> Value:
        """Operand number `index`; raises InputError where it is absent."""
        value = self.operands[index] if index < len(self.operands) else None
        if value is None:
            raise InputError(f"{self.op} has no operand {index}", where=self.where)
        return value

    def replace_with(self, values: Value | Sequence[Value]) -> None:
        """Let every use of the results read `values` instead, and erase the node; names and origins go over.

        >>> from qgraph.ir import parse
        >>> graph = parse('''graph @g level=float (%x: f32[N,4]) {
        ...   %1: f32[N,4] = nn.relu(%x) loc(act net.py:3)
        ...   return %1
        ... }''')
        >>> for node in graph.find("nn.relu"):
        ...     node.replace_with(graph.insert_before(node).nn.relu6(node.operand(0)))
        >>> print(graph)
        graph @g level=float (%x: f32[N,4]) {
          %1: f32[N,4] = nn.relu6(%x) loc(act net.py:3)
          return %1
        }
        <BLANKLINE>
        """
        self.graph.replace(self, values)

    def erase(self) -> None:
        """Remove the node from its graph; raises InputError where a result is used."""
        self.graph.erase(self)

    @property
    def dialect(self) -> str:
        """The part of the op's name before the dot."""
        return self.op.partition(".")[0]

    @property
    def where(self) -> tuple[str, ...]:
        """Lines for an error message: the node as text and its origins."""
        from qgraph.ir.printer import print_node

        return (f"node    {print_node(self)}", *(f"origin  {origin.readable}" for origin in self.origins))

    def __repr__(self) -> str:
        from qgraph.ir.printer import print_node

        return print_node(self)
