"""Compare two graphs: matched groups of nodes, types, attributes, constants, and with inputs their values."""

from __future__ import annotations

import numpy as np

from qgraph.differ.graph_diff import Change, GraphDiff, Kind, Numbers
from qgraph.differ.matching import Group, match_nodes
from qgraph.interpreter import execute, quantize_inputs
from qgraph.interpreter.inputs import Inputs, Layout
from qgraph.interpreter.run_graph import dequantized
from qgraph.ir import Array, Graph, Node, Value
from qgraph.ir.origin import union
from qgraph.ir.printer import print_node

NCHW = (0, 3, 1, 2)
Values = dict[Value, Array]


def diff(a: Graph, b: Graph, inputs: Inputs | None = None) -> GraphDiff:
    """What differs between two graphs of any levels.

    With `inputs` (floats, as the first graph takes them) both run, and each matched group's last values are compared
    after dequantization. `changes` has one entry per matched group that differs, and with inputs one for every group.
    """
    values = None if inputs is None else _values_of_both(a, b, inputs)
    groups = match_nodes(a, b)
    changes = [_change(group, values, (a, b)) for group in groups]
    kept = [change for change in changes if change.kind != "same" or change.numbers is not None]
    return GraphDiff(tuple(_about(a, b)), tuple(kept), sum(change.kind == "same" for change in changes))


def _about(a: Graph, b: Graph) -> list[str]:
    lines = []
    if a.level != b.level:
        lines.append(f"level: {a.level} -> {b.level}")
    words = sorted({*a.metadata, *b.metadata})
    lines += [
        f"{key}: {a.metadata.get(key)} -> {b.metadata.get(key)}"
        for key in words
        if a.metadata.get(key) != b.metadata.get(key)
    ]
    for what, before, after in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        if len(before) != len(after):
            lines.append(f"{what}s: {len(before)} -> {len(after)}")
        for x, y in zip(before, after):  # noqa: B905  the count is reported above
            if x.type != y.type or (what == "input" and x.name != y.name):
                lines.append(f"{what} {x} -> {y}")
    return lines


def _change(group: Group, values: tuple[Values, Values] | None, graphs: tuple[Graph, Graph]) -> Change:
    before, after = group.before, group.after
    details = tuple(_details(before, after))
    kind: Kind = "changed" if before and after else "removed" if before else "added"
    if not details and [n.op for n in before] == [n.op for n in after]:
        kind = "same"
    numbers = None
    if values is not None and before and after:
        numbers = _numbers(_comparable(before[-1], values[0], graphs[0]), _comparable(after[-1], values[1], graphs[1]))
    origins = tuple(o.readable for o in union(node.origins for node in [*before, *after]))
    texts = tuple(map(print_node, before)), tuple(map(print_node, after))
    return Change(kind, origins, texts[0], texts[1], details, numbers)


def _details(before: list[Node], after: list[Node]) -> list[str]:
    if len(before) != len(after) or any(x.op != y.op for x, y in zip(before, after, strict=True)):
        sides = [" + ".join(node.op for node in nodes) or "nothing" for nodes in (before, after)]
        return [f"{sides[0]} -> {sides[1]}"]
    return [line for x, y in zip(before, after, strict=True) for line in _node_details(x, y)]


def _node_details(x: Node, y: Node) -> list[str]:
    lines = [
        f"{y.op} {key}: {x.attrs.get(key)} -> {y.attrs.get(key)}"
        for key in dict.fromkeys([*x.attrs, *y.attrs])
        if x.attrs.get(key) != y.attrs.get(key)
    ]
    results = zip(x.results, y.results, strict=True)
    lines += [f"{y.op} result: {old.type} -> {new.type}" for old, new in results if old.type != new.type]
    if len(x.operands) != len(y.operands):
        lines.append(f"{y.op} operands: {len(x.operands)} -> {len(y.operands)}")
    for old, new in zip(x.operands, y.operands):  # noqa: B905  the count is reported above
        if old is not None and new is not None and old.is_constant and new.is_constant:
            lines += _constant_details(old, new)
    return lines


def _constant_details(old: Value, new: Value) -> list[str]:
    if old.data is new.data and old.type == new.type:
        return []
    if old.type != new.type:
        return [f"@{old.name}: {old.type} -> @{new.name}: {new.type}"]
    differs = (old.data != new.data) & ~(np.isnan(old.data) & np.isnan(new.data) if old.type.is_float else False)
    if not differs.any():
        return []
    largest = np.nanmax(np.abs(old.data.astype(np.float64) - new.data.astype(np.float64)))
    return [f"@{new.name}: {int(differs.sum())} of {differs.size} elements differ, by up to {largest:.3g}"]


def _values_of_both(a: Graph, b: Graph, inputs: Inputs) -> tuple[Values, Values]:
    """The inputs are as the first graph takes them: they stay NCHW for an NHWC graph where their shape fits both."""
    layout: Layout | None = None if a.metadata.get("layout") == "NHWC" else "NCHW"
    return _values(a, inputs, layout), _values(b, inputs, layout)


def _values(graph: Graph, inputs: Inputs, layout: Layout | None) -> Values:
    values: Values = {}
    execute(graph, quantize_inputs(graph, inputs, layout=layout), watch=values.__setitem__)
    return values


def _comparable(node: Node, values: Values, graph: Graph) -> Array:
    """A node's result as floats in NCHW's order."""
    array = dequantized(values[node.result], node.result.type)
    if graph.metadata.get("layout") != "NHWC":
        return array
    source = node.inputs[0].type
    if array.ndim == 2 and source.rank == 4:  # a flatten: its features stand in NHWC's order
        array = array.reshape(len(array), *(int(size) for size in source.shape[1:]))
        return array.transpose(NCHW).reshape(len(array), -1)
    return array.transpose(NCHW) if array.ndim == 4 else array


def _numbers(a: Array, b: Array) -> Numbers | None:
    if a.shape != b.shape:
        return None
    signal, error = a.astype(np.float64), a.astype(np.float64) - b.astype(np.float64)
    power = float((error**2).sum())
    if power == 0:
        return Numbers(None, 0.0)
    ratio = float((signal**2).sum()) / power
    return Numbers(float(10 * np.log10(ratio)) if ratio > 0 else float("-inf"), float(np.abs(error).max()))
