"""SmoothQuant: outlier channels of what a normalization gives move into the weights that read it.

    y = nn.layer_norm(x, gamma, beta)        y / s = nn.layer_norm(x, gamma / s, beta / s)
    z = nn.linear(y, w, b)             ->    z     = nn.linear(y / s, w * s, b)          for each channel of y

`s = max|y|^alpha / max|w|^(1 - alpha)`, over the examples and over all linear layers that read y: an activation has one
scale for all channels, a weight one for each row, so that a channel that is much larger than the others costs these
their resolution. Exact in real arithmetic. Declines, in the log, where the result of a normalization is returned or
read by anything else than linear layers, or parameters are shared or computed.

Source: Xiao et al. 2023, SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models
(arXiv 2211.10438), equations 3 and 4, with its alpha of 0.5.
"""

from __future__ import annotations

import numpy as np

from qgraph.interpreter.execute import execute
from qgraph.interpreter.inputs import Inputs, quantize_inputs
from qgraph.ir import Array, Builder, Graph, Node, Value
from qgraph.ir.trained import keeping_trained
from qgraph.passes.engine.log import current_log
from qgraph.passes.fold_constants import folded_name
from qgraph.passes.rules.layer_scaling import folded_weight, largest_inputs, scaled_inputs

NORMS = ("nn.layer_norm", "nn.rms_norm")
ALPHA = 0.5
"""How much of the difficulty moves from the activations into the weights."""


def smooth(graph: Graph, examples: Inputs) -> Graph:
    """The float graph with scales moved from normalizations into the linear layers behind them.

    `examples`: as `qgraph.run` takes them.
    """
    made = graph.clone()
    found = {node: readers for node in made.nodes if node.op in NORMS and (readers := _readers(node)) is not None}
    largest = _largest(made, [node.result for node in found], examples)
    with keeping_trained(made):
        for norm, readers in found.items():
            _smooth(made, norm, readers, largest[norm.result])
    return made


def _readers(norm: Node) -> list[Node] | None:
    """The linear layers that read what a normalization gives; None, which the log explains, where others do."""
    obstacle = ""
    readers = [*dict.fromkeys(norm.result.users)]
    if norm.attrs["axes"] != 1:
        obstacle = "it normalizes over more than the channels"
    elif norm.result.is_output or not readers or not all(node.op == "nn.linear" for node in readers):
        obstacle = "its result is returned, or read by others than linear layers"
    elif not all(_is_own(value) for node in (norm, *readers) for value in node.inputs[1:2]):
        obstacle = "a weight is computed, or shared"
    elif not all(_is_own(value) for value in norm.inputs[1:]):
        obstacle = "a gain or shift is computed, or shared"
    if obstacle:
        current_log().decline("smooth", norm, obstacle)
    return None if obstacle else readers


def _is_own(value: Value) -> bool:
    return value.is_constant and value.use_count == 1


def _largest(graph: Graph, values: list[Value], examples: Inputs) -> dict[Value, Array]:
    """The largest magnitudes of each channel, the last dimension, over the examples."""
    wanted, found = set(values), {}

    def watch(value: Value, array: Array) -> None:
        if value in wanted:
            found[value] = np.abs(array).reshape(-1, array.shape[-1]).max(0)

    execute(graph, quantize_inputs(graph, examples), watch)
    return found


def _smooth(graph: Graph, norm: Node, readers: list[Node], seen: Array) -> None:
    weights = np.max([largest_inputs(node, node.operand(1).data) for node in readers], axis=0)
    usable = (seen > 0) & (weights > 0)
    factor = np.ones_like(seen)
    factor[usable] = seen[usable] ** ALPHA / weights[usable] ** (1 - ALPHA)
    build = Builder(graph, norm, norm.origins)
    old = norm.operands[1] if len(norm.operands) > 1 else None
    gain = np.ones_like(seen) if old is None else old.data
    name = old.name if old is not None else f"{norm.origins[-1].path if norm.origins else norm.op}.weight"
    made = [build.constant((gain / factor).astype(gain.dtype), folded_name(name))]
    shifts = norm.inputs[1 + (old is not None) :]
    made += [build.constant((each.data / factor).astype(each.data.dtype), folded_name(each.name)) for each in shifts]
    graph.set_operands(norm, [norm.operand(0), *made])
    for node in readers:
        w = node.operand(1)
        weight = folded_weight(Builder(graph, node, node.origins), scaled_inputs(node, w.data, factor), w)
        graph.set_operands(node, [node.operand(0), weight, *node.operands[2:]])
