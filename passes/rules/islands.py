"""What lies between ops that a target computes more finely than on its grids: nothing is rounded to one there.

    %1 = nn.mul(%x, %x)                                   ort.DequantizeLinear of %x
    %2 = nn.sum(%1) {axes=[1]}                            nn.mul, nn.sum, nn.sqrt, nn.div, all on floats
    %3 = nn.sqrt(%2)                               ->     ort.QuantizeLinear, where an op on integers reads the quotient
    %4 = nn.div(%x, %3)

An island is one of floats, where the target knows the bits of such ops (`Target.exact_in_float`), or of 16 bits
(`Target.fine_in_16`). It begins at an op that the target has on floats alone (a quotient, a normalization;
`Correspondence.on_floats`), with `fallback="float"` at one without an integer form, and at a root of what is computed:
next to 0 it is steep, where a grid has few steps. One of 16 bits begins at a softmax of long rows, too, whose shares
are a step or two of 1/256, at a difference of squares, at a soft cap, and at what makes places to sample at. An op
joins it where all who read it are in it; or where all computed floats that it reads are, of a product one, whose size
may be any; sums join together, where each is read by the next and by an island: a residual stream. What moves elements
rounds nothing and has no part, unless it joins several values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ops.fine import gives_places, is_soft_cap
from qgraph.ops.quant import is_known, unquantized
from qgraph.targets.correspondence import Refusal
from qgraph.targets.lowering import choose
from qgraph.targets.target import Target

STEEP = ("nn.sqrt", "nn.rsqrt")
LONG_ROW = 16
"""Elements of a softmax up to which a step of 1/256 is 1/16 of an even share, or less."""
PRODUCTS = ("nn.mul",)
STREAMING = ("nn.add", "nn.concat")
GATHERING = ("nn.max", "nn.min", "nn.concat")
"""Ops that move elements, and for which targets bring several values to one grid, or take one aside."""
Holds = Callable[[Node], bool]


def of_floats(graph: Graph, target: Target, floats: Collection[Node], tied: Holds) -> set[Node]:
    """The nodes that the target computes on floats; none where it knows no bits of such ops.

    `floats`: those that stay in float for want of an integer form; `tied`: whether a node's result has to have a grid.
    """
    known = target.exact_in_float
    if known is None:
        return set()

    def admits(node: Node) -> bool:
        kept = choose(node, target, in_float=True)
        return known(node) and not isinstance(kept, Refusal) and kept.weight is None

    def begins(node: Node) -> bool:
        row = choose(node, target)
        return not isinstance(row, Refusal) and row.on_floats

    return _Islands(graph, lambda node: admits(node) and not tied(node), begins, set(floats)).grown() - set(floats)


def of_16_bits(graph: Graph, target: Target, tied: Holds) -> set[Node]:
    """The nodes whose results have 16 bits where all others have 8; none where the target has no such forms.

    `tied`: whether the user asks for a number of bits.
    """
    fine = target.fine_in_16
    if fine is None:
        return set()
    return _Islands(graph, lambda node: fine(node) and not tied(node), _begins_16_bits, set()).grown()


def _begins_16_bits(node: Node) -> bool:
    """Whether a node is a softmax whose shares are small, a difference of squares of which little may be left, a soft
    cap, whose tanh is far from its poles most often, or makes places, of which 8 bits tell few pixels apart."""
    if gives_places(node.results[0]) or is_soft_cap(node):
        return True
    if node.op == "nn.softmax":
        size = node.result.type.shape[node.attrs["axis"]]
        return not _is_returned(node.result) and (isinstance(size, str) or size > LONG_ROW)
    return node.op == "nn.sub" and all(_of_squares(value) for value in node.inputs)


def _is_returned(value: Value) -> bool:
    """Whether a value is an output, maybe behind ops that move its elements."""
    moved = (user.results[0] for user in value.users if _moves(user))
    return value.is_output or any(map(_is_returned, moved))


def _of_squares(value: Value) -> bool:
    """Whether a value is a square, or a sum or a mean of such, times a constant maybe."""
    node = value.producer
    if node is None or not value.type.is_float:
        return False
    computed = [each for each in node.inputs if not is_known(each)]
    if node.op == "nn.mul" and len(computed) == 2:
        return computed[0] is computed[1]
    passes_on = node.op in ("nn.mean", "nn.sum", "nn.mul") or _moves(node)
    return passes_on and len(computed) == 1 and _of_squares(computed[0])


def reads_finely(user: Node, found: Collection[Node], returned: bool = False) -> bool:
    """Whether a node reads what an island has: it is `found` in one, or moves elements to nothing but those that are.

    `returned`: whether what is returned may be so fine.
    """
    if user in found:
        return True
    if not _moves(user):
        return False
    result = user.result
    read = bool(result.users) or (returned and result.is_output)
    kept = read and (returned or not result.is_output)
    return kept and all(reads_finely(each, found, returned) for each in result.users)


def of_known_bits(graph: Graph, target: Target, floats: Collection[Node]) -> set[Node]:
    """Those of the `floats` whose bits are known, since those of all floats are that they are made of."""
    known: set[Node] = set()
    for node in graph.nodes:
        if node not in floats or target.exact_in_float is None or not target.exact_in_float(node):
            continue
        makers = [maker_among(value, floats) for value in node.inputs]
        if all(maker in known or maker not in floats for maker in makers):
            known.add(node)
    return known


def maker_among(value: Value, found: Collection[Node]) -> Node | None:
    """What computes a value, behind ops that move the elements of one value and are none of `found` themselves."""
    maker = unquantized(value).producer
    while maker is not None and maker not in found and _moves(maker) and maker.op not in GATHERING:
        maker = maker.operand(0).producer
    return maker


def _moves(node: Node) -> bool:
    """Whether a node moves elements; outside of training dropout leaves them as they are."""
    return op_def(node.op).traits.moves_data or op_def(node.op).traits.idle


@dataclass
class _Islands:
    graph: Graph
    admits: Holds
    begins: Holds
    found: set[Node] = field(default_factory=set)

    def grown(self) -> set[Node]:
        """All nodes of islands; from one end of the graph to the other until nothing joins any more."""
        computed = [node for node in self.graph.nodes if node.dialect == "nn" and node.results[0].type.is_float]
        nodes = [node for node in computed if self.admits(node)]
        among = set(nodes)
        self.found |= {node for node in nodes if self.begins(node) or self._is_root(node, among)}
        while joined := self._joining(nodes) or self._streams(nodes):
            self.found |= joined
        return self.found

    def _joining(self, nodes: Sequence[Node]) -> set[Node]:
        return {node for node in nodes if node not in self.found and self._joins(node)}

    def _streams(self, nodes: Sequence[Node]) -> set[Node]:
        """Sums that nothing reads but islands and other such sums: a residual stream that is normalized aside."""
        sums = {node for node in nodes if node.op in STREAMING and node not in self.found and not node.result.is_output}
        while others := {node for node in sums if not self._read_within(node.result, sums | self.found)}:
            sums -= others
        return sums

    def _read_within(self, value: Value, nodes: Collection[Node]) -> bool:
        return bool(value.users) and all(reads_finely(user, nodes) for user in value.users)

    def _is_root(self, node: Node, among: Collection[Node]) -> bool:
        maker = maker_among(node.operand(0), among) if node.op in STEEP else None
        return maker is not None and maker in among and all(user.op in STEEP for user in maker.result.users)

    def _joins(self, node: Node) -> bool:
        result = node.results[0]
        if _moves(node) and node.op not in GATHERING:
            return False
        if not result.is_output and self._read_within(result, self.found):
            return True
        made = [
            maker_among(value, self.found) in self.found
            for value in node.inputs
            if value.type.is_float and not is_known(value)
        ]
        return any(made) if node.op in PRODUCTS else bool(made) and all(made)
