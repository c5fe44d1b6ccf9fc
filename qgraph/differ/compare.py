"""`diff`: match two graphs, group their nodes, and say of each group what differs."""

from __future__ import annotations

from qgraph.differ.change import Change, Kind
from qgraph.differ.details import Detail, group_details
from qgraph.differ.graph_diff import GraphDiff
from qgraph.differ.grouping import Group, group
from qgraph.differ.numbers import compare_values
from qgraph.differ.pairing import Pairing, match
from qgraph.differ.wiring import CONSTANT, Source, Wiring
from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Graph, Node
from qgraph.ir.collector import collector_paused


@collector_paused()
def diff(a: Graph, b: Graph, inputs: Inputs | None = None) -> GraphDiff:
    """What differs between two graphs of any levels, targets and layouts.

    Nodes are matched by origin and name where the structure agrees, then by structure (see `qgraph/differ/README.md`);
    names, origins and the order of independent nodes are no difference. With `inputs` (floats, as the first graph takes
    them) both graphs run, and the values of each group are compared after dequantization, in one layout. The result
    refers to the graphs: change them and it no longer holds.
    """
    found = match(a, b)
    groups = group(found)
    wiring = Wiring(found, groups)
    changes = [_change(found, wiring, number) for number in range(len(groups))]
    if inputs is not None:
        changes = compare_values(a, b, inputs, changes)
    return GraphDiff(a, b, tuple(_about(found, wiring)), tuple(changes))


def _change(found: Pairing, wiring: Wiring, number: int) -> Change:
    group = wiring.groups[number]
    before = [node for v in group.before if (node := found.a.nodes[v]) is not None]
    after = [node for v in group.after if (node := found.b.nodes[v]) is not None]
    details = group_details(before, after)
    if number in wiring.moved:
        details.append(Detail("moved", "reads", *_feeds(found, wiring, number)))
    elif before and after and wiring.rewired(number):
        details.append(Detail("operand", "operands", *_feeds(found, wiring, number)))
    return Change(_kind(group, details), tuple(before), tuple(after), tuple(details))


def _kind(group: Group, details: list[Detail]) -> Kind:
    before, after = len(group.before), len(group.after)
    if not before or not after:
        return "removed" if before else "added"
    if before != after:
        return "fused" if before > after else "split"
    if details:
        return "moved" if [detail.what for detail in details] == ["moved"] else "changed"
    return "same"


def _feeds(found: Pairing, wiring: Wiring, number: int) -> tuple[str, str]:
    before, after = (
        ", ".join(_source_text(found, wiring, which, source) for source in wiring.sources(which, number))
        for which in (0, 1)
    )
    return before, after


def _source_text(found: Pairing, wiring: Wiring, which: int, source: Source) -> str:
    """The op and origin that a source is; an input's name."""
    number, index = source
    if source == CONSTANT:
        return "a constant"
    if number < 0:
        return (
            f"%{found.a.graph.inputs[-2 - number].name}" if number <= -2 and -2 - number < found.a.first else "an input"
        )
    group = wiring.groups[number]
    side, vertices = ((found.a, group.before), (found.b, group.after))[which]
    return _node_word(side.nodes[vertices[-1]]) + (f" result {index}" if index else "")


def _node_word(node: Node | None) -> str:
    if node is None:
        return "?"
    place = node.results[0].name or (node.origins[0].readable if node.origins else "")
    return f"{node.op} ({place})" if place else node.op


def _about(found: Pairing, wiring: Wiring) -> list[str]:
    """Differences of the graphs as wholes."""
    a, b = found.a.graph, found.b.graph
    lines = [] if a.level == b.level else [f"level: {a.level} -> {b.level}"]
    lines += [
        f"{key}: {a.metadata.get(key, 'none')} -> {b.metadata.get(key, 'none')}"
        for key in sorted({*a.metadata, *b.metadata})
        if a.metadata.get(key) != b.metadata.get(key)
    ]
    for what, before, after in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        if len(before) != len(after):
            lines.append(f"{what}s: {len(before)} -> {len(after)}")
    for index, (x, y) in enumerate(zip(a.inputs, b.inputs)):  # noqa: B905  the count is reported above
        if x.type != y.type or x.name != y.name:
            lines.append(f"input {index}: {x} -> {y}")
    for index, (x, y) in enumerate(zip(a.outputs, b.outputs)):  # noqa: B905  the count is reported above
        if x.type != y.type:
            lines.append(f"output {index}: {x.type} -> {y.type}")
    sources = wiring.output_sources(0), wiring.output_sources(1)
    for index, (old, new) in enumerate(zip(*sources)):  # noqa: B905  the count is reported above
        if old != new:
            texts = (_source_text(found, wiring, which, source) for which, source in enumerate((old, new)))
            lines.append(f"output {index} comes from: {' -> '.join(texts)}")
    return lines
