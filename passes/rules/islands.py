"""What lies between ops that a target computes on floats: it is of no grid, so that nothing is rounded there.

    %1 = nn.mul(%x, %x)                                   ort.DequantizeLinear of %x
    %2 = nn.sum(%1) {axes=[1]}                            nn.mul, nn.sum, nn.sqrt, nn.div, all on floats
    %3 = nn.sqrt(%2)                               ->     ort.QuantizeLinear, where an op on integers reads the quotient
    %4 = nn.div(%x, %3)

An island begins at an op that the target has on floats alone (a quotient, a normalization; `Correspondence.on_floats`),
at a root of what is computed, and, with `fallback="float"`, at an op without an integer form. An op joins it where all
who read it are in it; or where all computed floats that it reads are, of a product one, whose size may be any. It has
to be one whose bits are known (`Target.exact_in_float`), and which rounds: what moves elements loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ops.quant import is_known, unquantized
from qgraph.targets.correspondence import Refusal
from qgraph.targets.lowering import choose
from qgraph.targets.target import Target

STEEP = ("nn.sqrt", "nn.rsqrt")
"""Functions that are steep next to 0, where a grid has few steps."""
PRODUCTS = ("nn.mul",)


def islands(graph: Graph, target: Target, floats: Collection[Node], tied: Callable[[Node], bool]) -> set[Node]:
    """The nodes that the target computes on floats; none where it knows no bits of such ops.

    `floats`: those that stay in float for want of an integer form; `tied`: whether a node's result has to have a grid.
    """
    if target.exact_in_float is None:
        return set()
    return _Islands(graph, target, tied, set(floats)).grown() - set(floats)


def reads_floats(user: Node, floats: Collection[Node], returned: bool = False) -> bool:
    """Whether a node reads floats: it is one of `floats`, or moves elements to nothing but those that do.

    `returned`: whether what is returned may be floats.
    """
    if user in floats:
        return True
    result = user.results[0]
    read = bool(result.users) or (returned and result.is_output)
    kept = op_def(user.op).traits.moves_data and read and (returned or not result.is_output)
    return kept and all(reads_floats(each, floats, returned) for each in result.users)


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


def maker_among(value: Value, floats: Collection[Node]) -> Node | None:
    """What computes a value, behind ops that move its elements and are none of `floats` themselves."""
    maker = unquantized(value).producer
    while maker is not None and maker not in floats and op_def(maker.op).traits.moves_data:
        maker = maker.operand(0).producer
    return maker


@dataclass
class _Islands:
    graph: Graph
    target: Target
    tied: Callable[[Node], bool]
    found: set[Node] = field(default_factory=set)

    def grown(self) -> set[Node]:
        """All nodes of islands; from one end of the graph to the other until nothing joins any more."""
        nodes = [node for node in self.graph.nodes if self._may_join(node)]
        self.found |= {node for node in nodes if self._begins(node)}
        while joined := [node for node in (*reversed(nodes), *nodes) if node not in self.found and self._joins(node)]:
            self.found |= set(joined)
        return self.found

    def _may_join(self, node: Node) -> bool:
        if node.dialect != "nn" or not node.results[0].type.is_float or self.tied(node):
            return False
        assert self.target.exact_in_float is not None
        kept = choose(node, self.target, in_float=True)
        return self.target.exact_in_float(node) and not isinstance(kept, Refusal) and kept.weight is None

    def _begins(self, node: Node) -> bool:
        row = choose(node, self.target)
        if not isinstance(row, Refusal) and row.on_floats:
            return True
        (maker,) = {maker_among(value, self.found) for value in node.inputs} if node.op in STEEP else (None,)
        return maker is not None and self._may_join(maker) and len(maker.result.users) == 1

    def _joins(self, node: Node) -> bool:
        result, traits = node.results[0], op_def(node.op).traits
        if traits.moves_data and node.op not in ("nn.max", "nn.min"):
            return False
        if result.users and not result.is_output and all(reads_floats(user, self.found) for user in result.users):
            return True
        made = [
            maker_among(value, self.found) in self.found
            for value in node.inputs
            if value.type.is_float and not is_known(value)
        ]
        return any(made) if node.op in PRODUCTS else bool(made) and all(made)
