"""Cut out a part of the graph: what lies between some values and others, or the nodes of a module.

    extract{from=%1 to=%3}

    graph @g (%x) {                               graph @g (%v1) {
      %1 = nn.conv(%x, @w)                          %1 = nn.relu(%v1)
      %2 = nn.relu(%1)                       ->     %v3 = nn.add(%1, %1)
      %3 = nn.add(%2, %2)                           return %v3
      %4 = nn.relu6(%3)                           }
      return %4
    }

`from` and `to` are values as the text names them, several joined by commas; without `from` the part begins at the
graph's inputs, without `to` it ends at its outputs. `module` is a pattern of origin paths ("stages.0.*") instead: then
inputs and outputs are the values that cross the part's border. Each value keeps its name; what crosses the border and
prints as %3 becomes %v3. Raises InputError for a value that there is not, or a part without nodes. Exact bit for bit on
what is kept.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Sequence

from qgraph.errors import InputError
from qgraph.ir import Graph, Node, Value
from qgraph.ir.states import keep_states
from qgraph.passes.engine.registry import graph_pass


@graph_pass(exact="bits")
def extract(graph: Graph, from_: tuple[str, ...] = (), to: tuple[str, ...] = (), module: str = "") -> None:
    if module:
        if from_ or to:
            raise InputError("extract takes from and to, or module", help="extract{module=stages.0.*}")
        part = subgraph(graph, _of_module(graph, module))
    else:
        sources, results = [graph.value(name) for name in from_], [graph.value(name) for name in to]
        part = between(graph, sources, results or graph.outputs)
    graph.become(part)


def between(graph: Graph, sources: Sequence[Value], results: Sequence[Value]) -> Graph:
    """A new graph that computes `results` from `sources` and, where they are needed, the graph's inputs."""
    needed = _feeding(results, set(sources))
    nodes = [node for node in graph.nodes if node in needed]
    if not nodes:
        raise InputError("there is no node between the values", help="give `from` before `to`, as the graph runs")
    read = {value for node in nodes for value in node.inputs}
    idle = [value for value in sources if value not in read]
    if idle:
        raise InputError(
            f"{graph.value_names()[idle[0]]} does not feed what is extracted", help="leave it out of `from`"
        )
    inputs = [*sources, *(value for value in graph.inputs if value in read and value not in sources)]
    return _copied(graph, nodes, inputs, results)


def subgraph(graph: Graph, nodes: Collection[Node]) -> Graph:
    """A new graph of these nodes: its inputs are the values that come from outside, its outputs those read outside."""
    kept = set(nodes)
    ordered = [node for node in graph.nodes if node in kept]
    if not ordered:
        raise InputError("a graph without nodes cannot be extracted")
    read = dict.fromkeys(value for node in ordered for value in node.inputs if not value.is_constant)
    inputs = [value for value in read if value.producer not in kept]
    made = [value for node in ordered for value in node.results]
    outputs = [value for value in made if value.is_output or not kept.issuperset(value.users)]
    return _copied(graph, ordered, inputs, outputs or made[-1:])


def lasting_names(graph: Graph) -> dict[Value, str]:
    """A name for every value that holds outside of the graph too: its own, or "v3" for the result that prints as %3."""
    taken = {value.name for value in graph.value_names()}
    names = {}
    for value, text in graph.value_names().items():
        name = value.name or f"v{text[1:]}"
        while not value.name and name in taken:
            name += "_"
        names[value] = name
    return names


def _of_module(graph: Graph, module: str) -> list[Node]:
    nodes = [node for node in graph.nodes if any(fnmatch.fnmatchcase(origin.path, module) for origin in node.origins)]
    if not nodes:
        paths = sorted({origin.path for node in graph.nodes for origin in node.origins if origin.path})
        raise InputError(f"no node comes from {module!r}", help=f"origins: {', '.join(paths) or 'none'}")
    return nodes


def _feeding(results: Iterable[Value], stops: Collection[Value]) -> set[Node]:
    """The nodes that the results are computed from, up to the values at which to stop."""
    found: set[Node] = set()
    work = [value.producer for value in results if value not in stops]
    while work:
        node = work.pop()
        if node is not None and node not in found:
            found.add(node)
            work += [value.producer for value in node.inputs if value not in stops]
    return found


def _copied(graph: Graph, nodes: Sequence[Node], inputs: Sequence[Value], outputs: Sequence[Value]) -> Graph:
    names = lasting_names(graph)
    part = Graph(graph.name, graph.level, graph.metadata)
    copies = {value: part.add_input(names[value], value.type) for value in inputs}
    for node in nodes:
        for value in node.inputs:
            if value.is_constant and value not in copies:
                copies[value] = part.add_constant(value.data, value.name, value.type.quant, value.type.dtype)
        operands = [None if value is None else copies[value] for value in node.operands]
        types = [value.type for value in node.results]
        crossing = [names[value] if value in outputs else value.name for value in node.results]
        made = part.insert(node.op, operands, node.attrs, types, origins=node.origins, names=crossing)
        copies.update(zip(node.results, made.results, strict=True))
    whole = list(outputs) == graph.outputs
    part.set_outputs([copies[value] for value in outputs], graph.given_output_names if whole else ())
    keep_states(part)
    return part
