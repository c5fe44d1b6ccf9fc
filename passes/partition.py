"""Split a graph into parts that alternate between ops that are supported and ops that are not; keep one part.

    partition{ops=nn.conv|nn.relu part=0}

    %1 = nn.conv(%x, @w)                        %1 = nn.conv(%x, @w)            part 0: supported
    %2 = nn.softmax(%1) {axis=1}         ->     return %1
    %3 = nn.relu(%2)                                                            part 1: nn.softmax; part 2: nn.relu

`ops` names the supported ops, joined by "|"; `target` takes those that a target lowers instead. A part holds all nodes
that can run together: running the parts in order gives what the graph gives, and no split of this kind has fewer
changes between the two on the longest way through the graph. `part` counts from 0. Exact bit for bit: the parts
together compute what the graph computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qgraph import targets
from qgraph.errors import InputError
from qgraph.ir import Graph, Node
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.extract import lasting_names, subgraph


@dataclass(frozen=True)
class Part:
    """One part: a graph of its own, and whether its ops are the supported ones."""

    graph: Graph
    supported: bool

    def __str__(self) -> str:
        ops = sorted({node.op for node in self.graph.nodes})
        return f"{'supported' if self.supported else 'unsupported'}, {len(self.graph)} nodes: {', '.join(ops)}"


def parts(graph: Graph, supported: Callable[[Node], bool]) -> list[Part]:
    """The parts in the order in which they run; the inputs and outputs of each are values of the graph by name.

    A node's place is the number of changes between supported and not on the longest way that leads to it (for a node
    with constants only, 0 or 1): an operand never stands in a later part than its reader.
    """
    places: dict[Node, int] = {}
    for node in graph.nodes:
        place = 0 if supported(node) else 1
        for value in node.inputs:
            if value.producer is not None:
                before = places[value.producer]
                place = max(place, before + (before % 2 != (0 if supported(node) else 1)))
        places[node] = place
    for value, name in lasting_names(graph).items():  # before they are cut apart: one value, one name in all parts
        value.name = name
    grouped: dict[int, list[Node]] = {}
    for node, place in places.items():
        grouped.setdefault(place, []).append(node)
    return [Part(subgraph(graph, grouped[place]), place % 2 == 0) for place in sorted(grouped)]


@graph_pass(exact="bits")
def partition(graph: Graph, part: int, ops: str = "", target: str = "") -> None:
    if bool(ops) == bool(target):
        raise InputError("partition takes either ops or target", help="partition{target=litert part=0}")
    wanted = set(ops.split("|")) if ops else set(targets.get(target).lowerings)
    found = parts(graph, lambda node: node.op in wanted)
    if not 0 <= part < len(found):
        lines = tuple(f"part {number}  {each}" for number, each in enumerate(found))
        raise InputError(f"there is no part {part}", where=lines, help="give one of these numbers")
    graph.become(found[part].graph)
