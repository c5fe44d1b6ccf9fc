"""Biases that take away what rounding shifts the results of layers by, on average."""

from __future__ import annotations

import numpy as np

from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Graph
from qgraph.ops.quant import unquantized
from qgraph.passes.rules.layer_scaling import channel_axis
from qgraph.ptq.side_by_side import Layer, improve_layers


def correct_biases(graph: Graph, examples: Inputs, reference: Graph | None = None) -> Graph:
    """The graph with each layer's bias corrected: for each channel by the mean, over the examples, of what the float
    model has and the fake-quantized graph lacks, layer by layer.

    A layer without a bias, or whose bias another one shares, stays. `examples`: as `qgraph.run` takes them;
    `reference`: see `improve_layers`. Raises InputError for a graph that is not calibrated. Source: Nagel et al. 2019,
    Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.2, on data (appendix D).
    """
    return improve_layers(graph, examples, _correct, reference)


def _correct(layer: Layer) -> None:
    bias = unquantized(layer.node.inputs[2]) if len(layer.node.inputs) > 2 else None
    if bias is None or not bias.is_constant or bias.use_count > 1:
        return
    missing = layer.results(layer.real).astype(np.float64) - layer.results(layer.rounded)
    axis = channel_axis(layer.node)
    shift = missing.mean(axis=tuple(i for i in range(missing.ndim) if i != axis))
    layer.node.graph.set_data(bias, (bias.data + shift).astype(bias.data.dtype))
