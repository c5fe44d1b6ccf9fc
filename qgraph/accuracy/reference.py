"""The fake-quantized graph to look at, and the float data of its constants, where another graph has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from qgraph import passes, pipeline, targets
from qgraph.accuracy.two_runs import folded, with_open_batch
from qgraph.differ.pairing import match
from qgraph.errors import InputError
from qgraph.interpreter.inputs import Inputs, Layout, by_name
from qgraph.interpreter.run_graph import dequantized
from qgraph.ir import Array, Dim, Graph, Node, Value, op_def
from qgraph.ops.nn.activation import activation_attrs
from qgraph.ops.quant import unquantized
from qgraph.passes.lower import in_layout
from qgraph.targets.lowering import FALLBACK
from qgraph.targets.rules import QuantRules

Shape = tuple[Dim, ...]
ALIKE = 0.5
"""Cosine of the angle between a weight and what it was rounded from, at least: others are not its own."""


def looked_at(graph: Graph) -> Graph:
    """The fake-quantized graph, folded: what was given, or what an integer graph is raised to. Raises InputError,
    LoweringError."""
    if graph.level == "integer":
        graph = passes.raise_to_fake_quant(graph)
    made = with_open_batch(folded(graph))
    if "raised" in made.metadata:
        for node in made.nodes:
            if node.attrs.get("activation") == "none" and _begins_at_zero(node):
                node.attrs["activation"] = "relu"
    return made


def _begins_at_zero(node: Node) -> bool:
    """Whether the result of a node of a raised graph cannot be negative: integers that are clamped at the ends of their
    grid need no relu of their own, and ranges that were seen include 0."""
    marks = [user for user in node.results[0].users if user.op == "quant.fake_quant"]
    return bool(marks) and all(mark.operand(2).data.min() == mark.attrs["range"][0] for mark in marks)


def as_floats(graph: Graph, made: Graph, inputs: Inputs, layout: Layout | None) -> dict[str, Array]:
    """Inputs of an integer graph for what it is raised to: the floats that integers stand for, channels first.

    Raises InputError where an array of floats fits both layouts, and none is said.
    """
    raised = {value.name: value.type.shape for value in made.inputs}
    types = {value.name: value.type for value in graph.inputs}
    last = targets.of(graph).layout == "NHWC"
    found = {}
    for name, array in by_name(graph, inputs).items():
        real = dequantized(array, types[name]) if array.dtype.kind in "iu" else array
        own, first = types[name].shape, raised[name]
        if real.ndim == 4 and last and _fits(own, _last(first)) and not _is_first(name, array, own, first, layout):
            real = np.ascontiguousarray(real.transpose(0, 3, 1, 2))
        found[name] = real
    return found


def _is_first(name: str, array: Array, own: Shape, first: Shape, layout: Layout | None) -> bool:
    """Whether an array for an input with its channels last has them first; integers are as the graph takes them."""
    if not _fits(first, array.shape) or not _fits(own, array.shape):
        return not _fits(own, array.shape)
    if layout is None and array.dtype.kind == "f":
        raise InputError(
            f"input %{name} of shape {list(array.shape)} may be NCHW or NHWC", help='say layout="NCHW" or layout="NHWC"'
        )
    return layout == "NCHW" and array.dtype.kind == "f"


def _fits(shape: Shape, sizes: Shape) -> bool:
    return len(shape) == len(sizes) and all(
        isinstance(a, str) or isinstance(b, str) or a == b for a, b in list(zip(shape, sizes, strict=True))[1:]
    )


def _last(sizes: Shape) -> Shape:
    """A shape NCHW as NHWC; of another rank as it is."""
    return tuple(sizes[i] for i in (0, 2, 3, 1)) if len(sizes) == 4 else sizes


def rules_of(graph: Graph) -> QuantRules | None:
    """The rules that the graph was prepared by; None without a target."""
    if not graph.target:
        return None
    target = targets.of(graph)
    return target.quant_rules(**{name: graph.metadata[name] for name in target.options if name in graph.metadata})


def float_data(graph: Graph, source: Graph) -> dict[Value, Array]:
    """For constants of a folded fake-quantized graph what they are in the float graph that it came from; its nodes get
    the activations that they have there.

    The float graph is prepared for the same target, and its nodes are matched with the graph's (`qgraph.differ`).
    Raises InputError where nothing of it is found.
    """
    if source.level != "float":
        raise InputError(f"graph {source.name} is of level {source.level}, not float", help="give the traced graph")
    prepared = pipeline.prepare(source, targets.of(graph), batchnorm="fold", fallback=graph.metadata.get(FALLBACK))
    if "raised" in graph.metadata:  # it went the same way, and back
        laid_out, _ = in_layout(prepared, targets.of(graph))
        prepared = passes.convert_layout(laid_out, to="NCHW", io="images")
    found: dict[Value, Array] = {}
    for one, other in _pairs(prepared, graph):
        if op_def(other.op).carries_activation:  # of a raised graph the grid may have said it
            other.attrs.update(activation_attrs(one.attrs))
        for theirs, ours in _constants(one, other):
            if ours.type.is_float and ours.type.shape == theirs.type.shape and _alike(ours.data, theirs.data):
                found[ours] = theirs.data
    if not found:
        raise InputError(
            f"no constant of graph {source.name} is one of graph {graph.name}",
            help="give the float graph that it was made of",
        )
    return found


def _pairs(a: Graph, b: Graph) -> Iterator[tuple[Node, Node]]:
    """The nodes of both graphs that are the same op in the same place."""
    pairs = match(a, b)
    for u, v in enumerate(pairs.partner):
        one, other = pairs.a.nodes[u], pairs.b.nodes[v] if v >= 0 else None
        if one is not None and other is not None and one.op == other.op:
            yield one, other


def _constants(one: Node, other: Node) -> Iterator[tuple[Value, Value]]:
    """The constants, unrounded, that two nodes read in the same place."""
    for x, y in zip(one.operands, other.operands, strict=False):
        if x is not None and y is not None and unquantized(x).is_constant and unquantized(y).is_constant:
            yield unquantized(x), unquantized(y)


def _alike(a: Array, b: Array) -> bool:
    """Whether two arrays point to about the same direction."""
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) >= ALIKE * norm


def missing(graph: Graph, found: Mapping[Value, Array]) -> list[str]:
    """The weights of which nothing was found, by name."""
    weights = [node.operand(0) for node in graph.find("quant.fake_quant") if node.operand(0).is_constant]
    return [value.name for value in weights if value not in found]
