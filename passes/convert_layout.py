"""Move channels to the last dimension (NHWC), or back, with the fewest transposes that are possible.

    convert-layout{to=NHWC}

    %1 = nn.conv(%x, @w)                   %1 = nn.transpose(%x) {perm=[0,2,3,1]}
    %2 = nn.add(%1, %1)                    %2 = nhwc.conv(%1, @w)
    %3 = nn.relu(%2)               ->      %3 = nn.add(%2, %2)
    %4 = nn.reshape(%3)                    %4 = nn.relu(%3)
                                           %5 = nn.transpose(%4) {perm=[0,3,1,2]}
                                           %6 = nn.reshape(%5)

Convolutions, poolings and batch normalizations move (ops with an `other_layout`); ops that know what to do with
permuted dimensions (elementwise ones; concat, pad, mean ...: those whose definition has `permuted`) go either way; all
others stay. Which of the free ones move is a minimum cut (an edge where one node reads another in the other layout
costs one transpose, all its readers together), so that no choice leaves fewer transposes. Transposes that the graph had
are undone where they are not needed (one of three dimensions, which moves and moves back alike, is taken as its operand
comes). `io=convert` moves the inputs and outputs of the graph too, `io=images` those of four dimensions. Constants
stay, but for operands of elementwise ops that have to be permuted. A fake-quant stays beside the node whose result it
rounds. Exact in real arithmetic: a mean, or a matrix product, may add in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from qgraph.errors import InputError
from qgraph.ir import IO_LAYOUT, Attr, Builder, Graph, Node, Value, op_def, set_states, states_of
from qgraph.ops.nn.permuting import to_first, to_last
from qgraph.ops.quant import is_known
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.rules.flattened import is_absorbed

if TYPE_CHECKING:
    import networkx

STAYS, MOVED = 0, 1
"""Labels: a value with its dimensions in the order that it has in the graph, or in the other layout's."""
FAKE_QUANT = "quant.fake_quant"
Ends = tuple[int, int]
"""The labels that a node reads and makes."""
CHANNELS = {"NCHW": 1, "NHWC": -1}
"""Layout -> the dimension that holds the channels of what a spatial op makes."""
OTHER = {"NHWC": ("NCHW", "nhwc", to_last, to_first), "NCHW": ("NHWC", "nn", to_first, to_last)}
"""Layout -> the other one, the word for constants that are permuted, the order that moves, and the one back."""
Moves = Callable[[Node], bool | None]
"""Whether a node that could go either way has to move; None: it may do either."""


@graph_pass(exact="real", needs={"level": "float|fake_quant"}, gives={"layout": ""})
def convert_layout(
    graph: Graph, to: Literal["NHWC", "NCHW"] = "NHWC", io: Literal["keep", "convert", "images"] = "keep"
) -> None:
    if to not in OTHER or io not in MOVED_RANKS:
        raise InputError(f"to={to} io={io} is not a choice", help="to is NHWC or NCHW, io keep, convert or images")
    graph.become(Conversion(graph, to, io).run())
    if io == "convert" and to == "NHWC":
        graph.metadata[IO_LAYOUT] = to
    elif io == "convert":
        graph.metadata.pop(IO_LAYOUT, None)


MOVED_RANKS: dict[str, Callable[[int], bool]] = {
    "keep": lambda rank: False,
    "convert": lambda rank: rank > 2,
    "images": lambda rank: rank == 4,
}
"""Which inputs and outputs of the graph move, by `io`."""


def either(node: Node) -> None:
    """No free node is bound."""


@dataclass
class Conversion:
    """One conversion of a graph to the layout `to`; `run` gives the new graph.

    `moves` binds nodes that could go either way. `absorbing`: a flatten that only linear layers read may move too,
    because `absorb_transposes` rids it of its transpose. `sources` then says which node of the graph each new one is.
    """

    graph: Graph
    to: str
    io: str
    moves: Moves = either
    absorbing: bool = False
    sources: dict[Node, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source, self.target, self.move, self.back = OTHER[self.to]

    def _end(self, value: Value) -> int:
        """The label that an input of the graph has, and that its return reads."""
        return MOVED if MOVED_RANKS[self.io](value.type.rank) else STAYS

    @property
    def moved(self) -> set[Value]:
        """The values of the new graph whose dimensions are in another order than those that they were made of."""
        own = (value for value in self.forms if value.producer is None or len({*self.labels[value.producer]}) == 1)
        return {self.forms[value][MOVED] for value in own if MOVED in self.forms[value] and not value.is_constant}

    def run(self) -> Graph:
        ends: dict[Node, Ends | None] = {}
        for node in self.graph.nodes:
            ends[node] = self._ends(node, ends)
        self.labels = _fewest_transposes(self.graph, ends, self._end)
        self.new = Graph(self.graph.name, self.graph.level, self.graph.metadata)
        self.forms: dict[Value, dict[int, Value]] = {}
        for value in self.graph.inputs:
            label = self._end(value)
            shape = [value.type.shape[i] for i in self.move(value.type.rank)] if label else value.type.shape
            self.forms[value] = {label: self.new.add_input(value.name, value.type.with_shape(shape))}
        for name, value in self.graph.constants.items():
            self.forms[value] = {STAYS: self.new.add_constant(value.data, name, value.type.quant, value.type.dtype)}
        for node in self.graph.nodes:
            self._convert(node)
            made = next(iter(self.forms[node.results[0]].values())).producer if node.results else None
            if made is not None:
                self.sources[made] = node
        build = Builder(self.new)
        outputs = [self._form(value, self._end(value), build) for value in self.graph.outputs]
        self.new.set_outputs(outputs, self.graph.given_output_names)
        self._begin_states()
        self.new.drop_unused_constants()
        return self.new

    def _begin_states(self) -> None:
        """Move the first values of states as their inputs were moved."""
        states = states_of(self.graph)
        first = {
            state.input.name: state.moved(self.move(state.input.type.rank) if self._end(state.input) else ())
            for state in states
        }
        set_states(self.new, {state.input.name: state.output for state in states}, first)

    def _ends(self, node: Node, earlier: dict[Node, Ends | None]) -> Ends | None:
        """The labels that a node reads and makes; None where both are one label and free."""
        if self._is_spatial(node):
            return MOVED, MOVED
        perm = node.attrs["perm"] if node.op == "nn.transpose" else ()
        rank = len(perm)
        if rank > 2 and perm in (self.back(rank), self.move(rank)):
            moves = perm == self.move(rank) and (rank > 3 or self._comes_moved(node.operand(0), earlier))
            return (MOVED, STAYS) if moves else (STAYS, MOVED)
        if self._permuted_attrs(node) is None and not (self.absorbing and is_absorbed(node)):
            return STAYS, STAYS
        bound = self.moves(node)
        return None if bound is None else (int(bound), int(bound))

    def _comes_moved(self, value: Value, ends: dict[Node, Ends | None]) -> bool:
        """Whether the nearest node before a value whose layout is known makes it moved."""
        while value.producer is not None:
            known = ends[value.producer]
            if known is not None:
                return known[1] == MOVED
            value = next(operand for operand in value.producer.inputs if not operand.is_constant)
        return self._end(value) == MOVED

    def _is_spatial(self, node: Node) -> bool:
        definition = op_def(node.op)
        return bool(definition.traits.other_layout) and definition.channel_axis == CHANNELS[self.source]

    def _permuted_attrs(self, node: Node) -> dict[str, Attr] | None:
        """The attributes of a node in the other layout; None where its op does not go there."""
        definition = op_def(node.op)
        ranks = {value.type.rank for value in node.inputs if not is_known(value)}
        if len(ranks) != 1:
            return None
        (rank,) = ranks
        if any(value.type.rank > rank or not _is_permutable(value) for value in node.inputs):
            return None
        if definition.traits.elementwise:
            return {}
        permuted = getattr(definition.view(node), "permuted", None)
        return None if permuted is None else permuted(self.move)

    def _convert(self, node: Node) -> None:
        build = Builder(self.new, origins=node.origins)
        reads, makes = self.labels[node]
        if reads != makes:  # a transpose: its result is its operand in the other layout
            self.forms[node.result] = {makes: self._form(node.operand(0), reads, build)}
            return
        names = [value.name for value in node.results]
        changed = self._permuted_attrs(node) if reads == MOVED else None
        if changed is None and not self._is_spatial(node):
            operands = [None if value is None else self._form(value, STAYS, build) for value in node.operands]
            types = [value.type for value in node.results]
            made = self.new.insert(node.op, operands, node.attrs, types, origins=node.origins, names=names)
        elif self._is_spatial(node):
            op = op_def(node.op).traits.other_layout
            others = [None if value is None else self._form(value, STAYS, build) for value in node.operands[1:]]
            operands = [self._form(node.operand(0), MOVED, build), *others]
            made = build.node(op, operands, node.attrs, names=names)
        else:
            rank = max(value.type.rank for value in node.inputs)
            operands = [self._operand(value, rank, build) for value in node.inputs]
            made = build.node(node.op, operands, {**node.attrs, **(changed or {})}, names=names)
        for old, new in zip(node.results, made.results, strict=True):
            self.forms[old] = {makes if old.type.rank > 2 else STAYS: new}

    def _form(self, value: Value, label: int, build: Builder) -> Value:
        """The value in a layout; a transpose is made where it is not there yet."""
        forms = self.forms[value]
        label = label if value.type.rank > 2 else STAYS
        if label not in forms:
            perm = (self.move if label == MOVED else self.back)(value.type.rank)
            forms[label] = build.nn.transpose(forms[1 - label], perm=perm)
        return forms[label]

    def _operand(self, value: Value, rank: int, build: Builder) -> Value:
        """An operand of an op that broadcasts, moved; a constant is permuted itself, before its fake-quant."""
        if not is_known(value):
            return self._form(value, MOVED, build)
        forms = self.forms[value]
        if all(size == 1 for size in value.type.shape):
            return forms[STAYS]
        if MOVED not in forms and value.producer is not None:
            operands = [self._operand(value.producer.operand(0), rank, build)]
            operands += [self.forms[each][STAYS] for each in value.producer.inputs[1:]]
            forms[MOVED] = build.node(value.producer.op, operands, value.producer.attrs).result
        elif MOVED not in forms:
            full = value.data.reshape((1,) * (rank - value.data.ndim) + value.data.shape)
            permuted = np.ascontiguousarray(full.transpose(self.move(rank)))
            name, type = f"{value.name}.{self.target}", value.type
            forms[MOVED] = self.new.add_constant(permuted, name, type.quant, type.dtype)
        return forms[MOVED]


def _is_permutable(value: Value) -> bool:
    """Whether a fake-quant of the value, where it has one, has no axis."""
    return value.producer is None or not is_known(value) or value.producer.attrs.get("axis") is None


def _is_beside(value: Value, user: Node) -> bool:
    """Whether a spatial op reads a value beside that which moves: the places at which it samples."""
    return bool(op_def(user.op).traits.other_layout) and value is not user.operand(0)


def _fewest_transposes(graph: Graph, ends: dict[Node, Ends | None], end_of: Callable[[Value], int]) -> dict[Node, Ends]:
    """Labels of all nodes: those that are given, and for the free ones those of a minimum cut.

    Vertices: MOVED (the source), STAYS (the sink), each free node, and two for each value that is read: one cuts, at
    the price of one transpose, when the value is made moved and read as it stays, the other in the opposite case.
    Edges without a capacity cannot be cut.
    """
    import networkx

    network: networkx.DiGraph[object] = networkx.DiGraph()
    network.add_nodes_from((MOVED, STAYS))

    def vertex(node: Node, end: int) -> object:
        known = ends[node]
        return node if known is None else known[end]

    def add_value(value: Value, maker: object) -> None:
        if value.type.rank < 3 or is_known(value):
            return
        for user in value.users:
            if (
                user.op == FAKE_QUANT and ends[user] is None
            ):  # it says how its operand is stored: never a transpose between the two
                network.add_edge(maker, user)
                network.add_edge(user, maker)
        readers = {STAYS if _is_beside(value, user) else vertex(user, 0) for user in value.users}
        readers |= {end_of(value)} if value.is_output else set()
        if readers <= {maker}:
            return
        down, up = (value, MOVED), (value, STAYS)
        network.add_edge(maker, down, capacity=1)
        network.add_edge(up, maker, capacity=1)
        network.add_edges_from((down, reader) for reader in readers)
        network.add_edges_from((reader, up) for reader in readers)

    for value in graph.inputs:
        add_value(value, end_of(value))
    for node in graph.nodes:
        for value in node.results:
            add_value(value, vertex(node, 1))
    moved = _source_side(network)
    label = {node: MOVED if node in moved else STAYS for node in graph.nodes}
    return {node: known or (label[node], label[node]) for node, known in ends.items()}


def _source_side(network: networkx.DiGraph[object]) -> set[object]:
    """The source's side of the minimum cut: part by part, since a part that one terminal alone touches needs none."""
    import networkx

    near = {end: {*network.successors(end), *network.predecessors(end)} for end in (MOVED, STAYS)}
    free = network.subgraph(vertex for vertex in network if vertex not in near)
    moved: set[object] = set()
    for part in networkx.weakly_connected_components(free):
        if part.isdisjoint(near[STAYS]):
            moved |= part
        elif not part.isdisjoint(near[MOVED]):
            moved |= networkx.minimum_cut(network.subgraph({*part, MOVED, STAYS}), MOVED, STAYS)[1][0]
    return moved
