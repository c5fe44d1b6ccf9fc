"""The graph: a linked list of nodes over SSA values; the only place where links change."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain, repeat
from sys import intern
from typing import TYPE_CHECKING, cast

import numpy as np

from qgraph.errors import InputError
from qgraph.ir.collector import collector_paused
from qgraph.ir.expressions import forget_others
from qgraph.ir.node import RETURN, Attr, Node, Value
from qgraph.ir.node_view import NodeView
from qgraph.ir.origin import Origin
from qgraph.ir.types import Array, QuantParams, TensorType, dtype_name

if TYPE_CHECKING:
    import networkx
    import onnx

    from qgraph.ir.builder import Builder

IO_LAYOUT = "io_layout"
"""The word of the metadata that says "NHWC" where rank-4 inputs and outputs have their channels last."""
RESULTS = "results"
"""The word of the metadata that says how the model nests its results: JSON with their numbers in lists and objects."""
LEVELS = ("float", "fake_quant", "integer")
_WILD = frozenset("*?[")
ONNX_EXPORTER = "qgraph.exporters.onnx_float"
"""The module of `to_onnx(graph)`; a name, not an import: it lies above."""


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
        self._output_names: tuple[str, ...] = ()
        self._length = 0
        self._numbers: dict[str, int] = {}  # the last number added to the name of a constant
        self.kept: dict[object, object] = {}
        """What others made of the graph, who see for themselves whether it still is the same."""

    # ---- reading

    @property
    def nodes(self) -> NodeView:
        """The nodes in order: a sequence whose nodes may be erased, and others inserted, while iterating."""
        return NodeView(self)

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
    def given_output_names(self) -> tuple[str, ...]:
        """The names that `set_outputs` gave to the outputs, "" for one without."""
        return self._output_names or ("",) * len(self.outputs)

    @property
    def output_names(self) -> list[str]:
        """A name for each output, none twice: the one given to it, its value's, or "output_2" ("output" alone)."""
        names: list[str] = []
        for index, (given, value) in enumerate(zip(self.given_output_names, self.outputs, strict=True)):
            default = f"output_{index}" if len(self.outputs) > 1 else "output"
            name, taken = given or value.name or default, {*names, *self.given_output_names}
            while not given and name in taken:
                name = default if name == value.name != default else f"{name}_"
            names.append(name)
        return names

    @property
    def target(self) -> str:
        """The target whose dialect an integer graph is written in, "" at other levels."""
        return self.metadata.get("target", "")

    @property
    def layout(self) -> str:
        """The layout of the graph's rank-4 inputs and outputs: "NCHW" or "NHWC"."""
        return self.metadata.get(IO_LAYOUT, "NCHW")

    def find(self, op: str = "*", *, origin: str = "") -> list[Node]:
        """The nodes of that op, in order: a name, names joined by "|", or patterns such as "nn.*".

        `origin` is a pattern of the module path or source node that they came from.

        >>> from qgraph.ir import parse
        >>> graph = parse('''graph @g level=float (%x: f32[N,4]) {
        ...   %1: f32[N,4] = nn.relu(%x) loc(stem.act)
        ...   %2: f32[N,4] = nn.relu6(%1) loc(head.act)
        ...   return %2
        ... }''')
        >>> graph.find("nn.relu|nn.relu6", origin="stem.*")
        [%1: f32[N,4] = nn.relu(%x)]
        """
        exact, wild = set(op.split("|")), [pattern for pattern in op.split("|") if _WILD & set(pattern)]
        return [
            node
            for node in self.nodes
            if (node.op in exact or any(fnmatchcase(node.op, pattern) for pattern in wild))
            and (not origin or any(fnmatchcase(o.path, origin) for o in node.origins))
        ]

    def value_names(self) -> dict[Value, str]:
        """Every value's name as the text has it: "%x", "@w", "%1" for a result without a name."""
        from qgraph.ir.printer import ValueNames

        name = ValueNames(self)
        results = (value for node in self.nodes for value in node.results)
        return {value: name(value) for value in [*self.inputs, *self.constants.values(), *results]}

    def value(self, name: str) -> Value:
        """The value that the text calls so: "%1", "%x", "@w"; raises InputError where there is none."""
        found = {text: value for value, text in self.value_names().items()}
        if name not in found:
            raise InputError(f"graph @{self.name} has no value {name!r}", help="write it as the text does: %1, @w")
        return found[name]

    # ---- building

    def add_input(self, name: str, type: TensorType) -> Value:
        """Append an input; raises InputError when the name is taken."""
        if any(value.name == name for value in self.inputs):
            raise InputError(f"graph @{self.name} already has an input %{name}")
        self.inputs.append(Value(type, name))
        return self.inputs[-1]

    def add_constant(
        self, data: Array, name: str = "const", quant: QuantParams | None = None, dtype: str | None = None
    ) -> Value:
        """Add a constant; where its name is taken a number is added to it. The array is kept, not copied.

        `dtype`: the storage type where it is not the array's own ("i4").
        """
        base = name
        while name in self.constants:
            self._numbers[base] = self._numbers.get(base, 0) + 1
            name = f"{base}.{self._numbers[base]}"
        array = np.asarray(data)
        value = Value(TensorType(array.shape, dtype or dtype_name(array.dtype), quant), name, data=array)
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
        node = Node(self, intern(op), attrs, origins)
        named = zip(result_types, chain(names, repeat("")))  # noqa: B905  the names that are missing are ""
        node.results = tuple([Value(type, name, node) for type, name in named])
        self._link(node, before or self._return)
        self.set_operands(node, operands)
        return node

    def insert_before(self, node: Node) -> Builder:
        """A builder whose nodes stand before `node` and carry its origins."""
        from qgraph.ir.builder import Builder

        return Builder(self, node, node.origins)

    def insert_after(self, node: Node) -> Builder:
        """A builder whose nodes stand right behind `node`, in the order in which they are built, with its origins."""
        from qgraph.ir.builder import Builder

        return Builder(self, node._next, node.origins)

    def set_outputs(self, values: Iterable[Value], names: Sequence[str] = ()) -> None:
        """Let the graph return these values, under these names ("" for one that needs none).

        A value may be returned more than once. Raises InputError where names are not as many as values, or one is
        there twice.
        """
        self.set_operands(self._return, list(values))
        given = [name for name in names if name]
        if (names and len(names) != len(self.outputs)) or len(set(given)) < len(given):
            raise InputError(f"{len(self.outputs)} outputs cannot be named {', '.join(names)}")
        self._output_names = tuple(names) if given else ()

    # ---- changing

    def set_operands(self, node: Node, operands: Sequence[Value | None]) -> None:
        """Replace all operands of a node; absent ones at the end are left out."""
        present = len(operands)
        while present and operands[present - 1] is None:
            present -= 1
        for old in node.operands:
            if old is not None:
                _remove_use(old, node)
        node.operands = tuple(operands[:present])
        _add_uses(node)

    def set_data(self, constant: Value, data: Array) -> None:
        """Let a constant of this graph have another array of its shape; clones keep theirs. It is kept, not copied."""
        if self.constants.get(constant.name) is not constant or data.shape != constant.data.shape:
            raise InputError(f"constant {constant} of graph @{self.name} cannot become an array of {data.shape}")
        constant._data = data

    def replace_uses(self, old: Value, new: Value, *, keep: Iterable[Node] = ()) -> None:
        """Let every node (but those in `keep`) and every graph output that reads `old` read `new`.

        The name of an output goes over with the output, where `new` has none.
        """
        if old is new:
            return
        kept = set(keep)
        if old.is_output and new.producer is not None and not new.name:
            self._hand_over_name(old, new)
        for user in [user for user in old._users if user not in kept]:
            user.operands = tuple([new if value is old else value for value in user.operands])
            new._users[user] = new._users.get(user, 0) + old._users.pop(user)

    def _hand_over_name(self, old: Value, new: Value) -> None:
        """Let `new`, which becomes an output, have the name given to it, that of `old` where it is the same."""
        given = [name for value, name in zip(self.outputs, self.given_output_names, strict=True) if value is old]
        if old.producer is not None and old.name in given:
            old.name, new.name = "", old.name
        elif old.producer is None and given[0]:
            taken = any(value.name == given[0] for value in self.inputs)
            new.name = f"{given[0]}.output" if taken else given[0]

    def replace(self, node: Node, values: Value | Sequence[Value]) -> None:
        """Let every use of a node's results read `values` instead, and erase the node.

        The nodes that make the values take the names of the results and the node's origins where they have none.
        Raises InputError where a value is computed from the node by the node that makes it: then
        `replace_uses(old, new, keep=[maker])` is meant.
        """
        values = [values] if isinstance(values, Value) else list(values)
        if len(values) != len(node.results):
            raise InputError(f"{node.op} has {len(node.results)} results, not {len(values)}", where=node.where)
        for old, new in zip(node.results, values, strict=True):
            if new.producer in old._users:
                raise InputError(f"{node.op} cannot be replaced by what is computed from it", where=node.where)
        for old, new in zip(node.results, values, strict=True):
            self.replace_uses(old, new)
            if new.producer is not None:
                new.name = new.name or old.name
                new.producer.origins = new.producer.origins or node.origins
        self.erase(node)

    def erase(self, node: Node) -> None:
        """Remove a node whose results are not used; raises InputError when one is."""
        if node.has_uses:
            raise InputError(f"{node.op} cannot be erased: its result is used", where=node.where)
        self.set_operands(node, ())
        node._prev._next, node._next._prev = node._next, node._prev  # its own links stay: an iterator goes on from here
        node.erased = True
        self._length -= 1

    def drop_unused_constants(self) -> int:
        """Forget the constants that nothing uses, nor what is made of them (`qgraph.ir.expressions`); returns how
        many."""
        needed = forget_others(self.metadata, [name for name, value in self.constants.items() if value._users])
        unused = [name for name, value in self.constants.items() if not value._users and name not in needed]
        for name in unused:
            del self.constants[name]
        return len(unused)

    def _link(self, node: Node, before: Node) -> None:
        node._prev, node._next = before._prev, before
        before._prev._next = node
        before._prev = node
        self._length += 1

    # ---- the whole graph

    @collector_paused()
    def clone(self) -> Graph:
        """An independent graph with the same constants (shared arrays)."""
        copy = Graph(self.name, self.level, self.metadata)
        copies: dict[Value | None, Value | None] = {None: None}
        for value in self.inputs:
            copies[value] = copy.add_input(value.name, value.type)
        for name, value in self.constants.items():
            copies[value] = copy.constants[name] = Value(value.type, name, data=value.data)
        for node in self.nodes:
            new = Node(copy, node.op, node.attrs, node.origins)
            new.results = tuple([Value(value.type, value.name, new) for value in node.results])
            copies.update(zip(node.results, new.results, strict=True))
            copy._link(new, copy._return)
            new.operands = tuple([copies[value] for value in node.operands])
            _add_uses(new)
        copy.set_operands(copy._return, [copies[value] for value in self.outputs])
        copy._output_names = self._output_names
        return copy

    def dismantle(self) -> None:
        """Take all links apart, so that memory is free at once, without a collection; the graph is of no use then."""
        node = self._return._next
        while node is not self._return:
            for value in node.results:
                value.producer = None
                value._users = {}
            node.operands, node.results, following = (), (), node._next
            del node._prev, node._next
            node = following
        for value in (*self.inputs, *self.constants.values()):
            value._users = {}
        del node._prev, node._next, self._return

    def become(self, other: Graph) -> None:
        """Take over the content of `other`, which must not be used afterwards: how a pass replaces a whole graph."""
        for node in other.nodes:
            node.graph = self
        other._return.graph = self
        for name in (*self.__dict__,):
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

    def _repr_html_(self) -> str:
        from qgraph.ir.notebook import graph_html

        return graph_html(self)

    def to_onnx(self) -> onnx.ModelProto:
        """A float graph as an ONNX model; raises ExportError naming a node that has no counterpart there."""
        return cast("onnx.ModelProto", importlib.import_module(ONNX_EXPORTER).to_onnx(self))

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


def _add_uses(node: Node) -> None:
    for value in node.operands:
        if value is not None:
            value._users[node] = value._users.get(node, 0) + 1


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
