"""The graph: a linked list of nodes over SSA values; the only place where links change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qgraph.errors import InputError
from qgraph.ir.node import RETURN, Attr, Node, Value
from qgraph.ir.origin import Origin
from qgraph.ir.types import Array, QuantParams, TensorType, dtype_name

if TYPE_CHECKING:
    import networkx

LEVELS = ("float", "fake_quant", "integer")


class Graph:
    """A program of `nodes` in an order where every value is made before it is used.

    `level` is "float", "fake_quant" or "integer"; `metadata` holds words about the whole graph, such as the `target`
    of an integer graph. Constants are named and hang on the graph; they are shared, never copied, between clones.
    """

    def __init__(self, name: str = "main", level: str = "float", metadata: Mapping[str, str] | None = None) -> None:
        if level not in LEVELS:
            raise InputError(f"{level!r} is not a level", help=f"use one of {', '.join(LEVELS)}")
        self.name = name
        self.level = level
        self.metadata: dict[str, str] = dict(metadata or {})
        self.inputs: list[Value] = []
        self.constants: dict[str, Value] = {}
        self._return = Node(self, RETURN, {}, ())  # its neighbours are the last and the first node: a ring
        self._length = 0

    # ---- reading

    @property
    def nodes(self) -> Iterator[Node]:
        """The nodes in order; nodes may be erased and inserted while iterating."""
        node = self._return._next
        while node is not self._return:
            if not node.erased:
                yield node
            node = node._next

    def after(self, node: Node | None) -> Node:
        """The place right behind a node (at the start for None), as the argument `before` of `insert` and `Builder`."""
        return (node or self._return)._next

    def __len__(self) -> int:
        return self._length

    @property
    def outputs(self) -> list[Value]:
        """The values that the graph returns."""
        return self._return.inputs

    @property
    def target(self) -> str:
        """The target whose dialect an integer graph is written in, "" at other levels."""
        return self.metadata.get("target", "")

    def find(self, op: str) -> list[Node]:
        """All nodes with that op name, in order."""
        return [node for node in self.nodes if node.op == op]

    # ---- building

    def add_input(self, name: str, type: TensorType) -> Value:
        """Append an input; raises InputError when the name is taken."""
        if any(value.name == name for value in self.inputs):
            raise InputError(f"graph @{self.name} already has an input %{name}")
        self.inputs.append(Value(type, name))
        return self.inputs[-1]

    def add_constant(self, data: Array, name: str = "const", quant: QuantParams | None = None) -> Value:
        """Add a constant; where its name is taken a number is added to it. The array is kept, not copied."""
        base, number = name, 1
        while name in self.constants:
            name = f"{base}.{number}"
            number += 1
        array = np.asarray(data)
        value = Value(TensorType(array.shape, dtype_name(array.dtype), quant), name, data=array)
        self.constants[name] = value
        return value

    def insert(
        self,
        op: str,
        operands: Sequence[Value | None],
        attrs: Mapping[str, Attr],
        result_types: Sequence[TensorType],
        *,
        before: Node | None = None,
        origins: tuple[Origin, ...] = (),
        names: Sequence[str] = (),
    ) -> Node:
        """Insert a node as given, unchecked, before another one (at the end by default); `Builder` infers and
        checks."""
        node = Node(self, op, attrs, origins)
        node.results = tuple(
            Value(type, names[i] if i < len(names) else "", node) for i, type in enumerate(result_types)
        )
        self._link(node, before or self._return)
        self.set_operands(node, operands)
        return node

    def set_outputs(self, values: Iterable[Value]) -> None:
        """Let the graph return these values."""
        self.set_operands(self._return, list(values))

    # ---- changing

    def set_operands(self, node: Node, operands: Sequence[Value | None]) -> None:
        """Replace all operands of a node; absent ones at the end are left out."""
        operands = list(operands)
        while operands and operands[-1] is None:
            operands.pop()
        for old in node.operands:
            if old is not None:
                _remove_use(old, node)
        node.operands = tuple(operands)
        for new in node.operands:
            if new is not None:
                new._users[node] = new._users.get(node, 0) + 1

    def replace_uses(self, old: Value, new: Value, *, keep: Iterable[Node] = ()) -> None:
        """Let every node (but those in `keep`) and every graph output that reads `old` read `new`."""
        if old is new:
            return
        kept = set(map(id, keep))
        for user in list(old._users):
            if id(user) not in kept:
                self.set_operands(user, [new if value is old else value for value in user.operands])

    def erase(self, node: Node) -> None:
        """Remove a node whose results are not used; raises InputError when one is."""
        if any(value._users for value in node.results):
            raise InputError(f"{node.op} cannot be erased: its result is used", where=node.where)
        self.set_operands(node, ())
        node._prev._next, node._next._prev = node._next, node._prev  # its own links stay: an iterator goes on from here
        node.erased = True
        self._length -= 1

    def drop_unused_constants(self) -> int:
        """Forget the constants that nothing uses; returns how many."""
        unused = [name for name, value in self.constants.items() if not value._users]
        for name in unused:
            del self.constants[name]
        return len(unused)

    def _link(self, node: Node, before: Node) -> None:
        node._prev, node._next = before._prev, before
        before._prev._next = node
        before._prev = node
        self._length += 1

    # ---- the whole graph

    def clone(self) -> Graph:
        """An independent graph with the same constants (shared arrays)."""
        copy = Graph(self.name, self.level, self.metadata)
        mapping: dict[int, Value] = {}
        for value in self.inputs:
            mapping[id(value)] = copy.add_input(value.name, value.type)
        for name, value in self.constants.items():
            mapping[id(value)] = copy.constants[name] = Value(value.type, name, data=value.data)
        for node in self.nodes:
            operands = [None if value is None else mapping[id(value)] for value in node.operands]
            new = copy.insert(
                node.op,
                operands,
                node.attrs,
                [value.type for value in node.results],
                origins=node.origins,
                names=[value.name for value in node.results],
            )
            for old_value, new_value in zip(node.results, new.results, strict=True):
                mapping[id(old_value)] = new_value
        copy.set_outputs(mapping[id(value)] for value in self.outputs)
        return copy

    def become(self, other: Graph) -> None:
        """Take over the content of `other`, which must not be used afterwards: how a pass replaces a whole graph."""
        for node in other.nodes:
            node.graph = self
        other._return.graph = self
        for name in ("name", "level", "metadata", "inputs", "constants", "_return", "_length"):
            setattr(self, name, getattr(other, name))

    def __deepcopy__(self, memo: dict[int, object]) -> Graph:
        return self.clone()

    def __reduce__(self) -> tuple[object, ...]:
        from qgraph.ir.storage import from_bytes, to_bytes

        return from_bytes, (to_bytes(self),)

    def __eq__(self, other: object) -> bool:
        """Same text and same constants; names of unnamed results do not count."""
        if not isinstance(other, Graph):
            return NotImplemented
        return (
            str(self) == str(other)
            and self.constants.keys() == other.constants.keys()
            and all(_same_bits(value.data, other.constants[name].data) for name, value in self.constants.items())
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __str__(self) -> str:
        from qgraph.ir.printer import print_graph

        return print_graph(self)

    def __repr__(self) -> str:
        return f"<Graph @{self.name} level={self.level} nodes={len(self)} inputs={self.inputs} outputs={self.outputs}>"

    def to_networkx(self) -> networkx.MultiDiGraph[object]:
        """Nodes, inputs and constants as vertices (attribute `item`), one edge for each operand (attributes `value`,
        `index`)."""
        import networkx

        view: networkx.MultiDiGraph[object] = networkx.MultiDiGraph()
        source: dict[int, object] = {}
        for value in [*self.inputs, *self.constants.values()]:
            view.add_node(value, item=value, label=value.name)
            source[id(value)] = value
        for node in [*self.nodes, self._return]:
            view.add_node(node, item=node, label=node.op)
            for index, operand in enumerate(node.operands):
                if operand is not None:
                    view.add_edge(operand.producer or source[id(operand)], node, value=operand, index=index)
        return view


def _remove_use(value: Value, node: Node) -> None:
    count = value._users[node] - 1
    if count:
        value._users[node] = count
    else:
        del value._users[node]


def _same_bits(a: Array, b: Array) -> bool:
    """Equal dtype, shape and bits; any NaN equals any other."""
    if a is b:
        return True
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "f" and np.isnan(a).any():
        nan = np.isnan(a)
        return bool((nan == np.isnan(b)).all()) and a[~nan].tobytes() == b[~nan].tobytes()
    return a.tobytes() == b.tobytes()
