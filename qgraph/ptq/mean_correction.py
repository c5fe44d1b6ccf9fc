"""Biases that take away what rounded weights shift the results of layers by, on average: by one run in float."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qgraph.calibration.float_values import FloatValues
from qgraph.interpreter.inputs import Inputs, by_name, quantize_inputs, split_batches
from qgraph.ir import Array, Graph, Node, op_def
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.ops.quant import unquantized
from qgraph.passes.rules.layer_scaling import LAYERS, channel_axis
from qgraph.ptq.side_by_side import folded


def correct_means(graph: Graph, examples: Inputs, reference: Graph | None = None) -> Graph:
    """The graph with each layer's bias corrected: for each channel by the mean, over the examples, of what its rounded
    weight adds to the result.

    A layer is linear, so that mean is the layer of the weight's rounding error on the mean example: all layers need one
    run in float together, where `correct_biases` runs each on what the ones before it make. A layer without a bias, or
    whose bias another one shares, stays. `examples`: as `qgraph.run` takes them; `reference`: the graph before others
    improved it, with the weights of the float model. Raises InputError for a graph that is not calibrated. Source:
    Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.2.
    """
    made = folded(graph)
    known = {} if reference is None else folded(reference).constants
    layers = [node for node in made.nodes if _has_bias_of_its_own(node)]
    batches = (quantize_inputs(made, batch) for batch in split_batches(made, by_name(made, examples)))
    for layer, x in zip(layers, _means(FloatValues(made, layers), layers, batches), strict=True):
        mark, bias = layer.operand(1).producer, unquantized(layer.operand(2))
        assert mark is not None
        w = mark.operand(0)
        rounded = op_def(mark.op).evaluate(mark, [None if value is None else value.data for value in mark.operands])[0]
        error = rounded - known.get(w.name, w).data
        shift = _mean_result(layer, x, error)
        made.set_data(bias, (bias.data - shift).astype(bias.data.dtype))
    return made


def _has_bias_of_its_own(node: Node) -> bool:
    if node.op not in LAYERS or len(node.operands) < 3 or unquantized(node.operand(1)) is node.operand(1):
        return False
    bias = unquantized(node.operand(2))
    return unquantized(node.operand(1)).is_constant and bias.is_constant and bias.use_count == 1


def _means(values: FloatValues, layers: Sequence[Node], batches: Iterable[Mapping[str, Array]]) -> list[Array]:
    """The mean example, [1, ...], that each layer reads, of rows where these are all that it sees of an example.

    Where examples have several sizes there, it is that of the first ones.
    """
    sums: list[Array] = [np.zeros(())] * len(layers)
    counts = [0] * len(layers)
    for batch in batches:
        for part in values.parts(list(batch.values())):
            for place, (layer, x) in enumerate(zip(layers, part, strict=True)):
                if x is None:
                    continue
                rows = x.reshape(-1, x.shape[-1]) if channel_axis(layer) == x.ndim - 1 else x
                added = rows.sum(0, dtype=np.float64)
                if not counts[place] or sums[place].shape == added.shape:
                    sums[place], counts[place] = sums[place] + added, counts[place] + len(rows)
    return [np.asarray(each[None] / count, np.float32) for each, count in zip(sums, counts, strict=True)]


def _mean_result(layer: Node, x: Array, weight: Array) -> Array:
    """The mean of each channel of what the layer, without bias and activation, makes of x with another weight."""
    bias = np.zeros_like(unquantized(layer.operand(2)).data)
    attrs, layer.attrs = layer.attrs, {**layer.attrs, **NO_ACTIVATION}
    try:
        (result,) = op_def(layer.op).evaluate(layer, [x, weight.astype(np.float32), bias])
    finally:
        layer.attrs = attrs
    axis = min(channel_axis(layer), result.ndim - 1)  # rows of a linear layer are two-dimensional
    return np.asarray(result.mean(axis=tuple(i for i in range(result.ndim) if i != axis), dtype=np.float64))
