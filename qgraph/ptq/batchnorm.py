"""Statistics of live batch normalizations, measured anew with quantized weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.interpreter.execute import node_evaluator
from qgraph.interpreter.inputs import Inputs, quantize_inputs
from qgraph.ir import Array, Graph, Node, Value, op_def
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.ops.quant import per_axis
from qgraph.passes.fold_batchnorm import LIVE_LAYERS
from qgraph.ptq.side_by_side import Evaluate, check_calibrated
from qgraph.quantizers.registry import get
from qgraph.quantizers.weight_scale import weight_scale


def reestimate_batchnorm(graph: Graph, examples: Inputs, reference: Graph | None = None) -> Graph:
    """The calibrated graph with the mean and the variance of every live batch normalization as its layer gives them
    with a quantized weight on the examples, layer by layer: rounding shifts and widens what the statistics were made
    for. The examples have to be as those of training were: statistics of few others ruin a model.

    Codes of weights with a scale for each channel stay the same. A graph without live batch normalizations, as after
    `equalize`, stays as it is. `examples`: as `qgraph.run` takes them; `reference` is not needed. Raises InputError for
    a graph that is not calibrated. Sources: Hubara et al. 2020, Improving Post Training Neural Quantization
    (arXiv 2006.10518), batch-norm tuning; Nagel et al. 2022, Overcoming Oscillations in Quantization-Aware Training
    (arXiv 2203.11086), re-estimation.
    """
    check_calibrated(graph)
    made = graph.clone()
    evaluate = node_evaluator(made)
    values: dict[Value, Array] = dict(zip(made.inputs, quantize_inputs(made, examples).values(), strict=True))
    left = {value: value.use_count for value in [*made.inputs, *(v for node in made.nodes for v in node.results)]}
    for node in made.nodes:
        if node.op in LIVE_LAYERS:
            _measure(node, values, evaluate)
        values.update(zip(node.results, evaluate(node, _arrays(node.operands, values)), strict=True))
        for value in node.inputs:
            left[value] = left.get(value, 0) - 1
            if not left[value]:
                values.pop(value, None)
    return made


def _arrays(operands: Sequence[Value | None], values: Mapping[Value, Array]) -> list[Array | None]:
    return [None if each is None else each.data if each.is_constant else values[each] for each in operands]


def _measure(node: Node, values: Mapping[Value, Array], evaluate: Evaluate) -> None:
    """Set the statistics of one layer, and the scale of its folded weight."""
    layer = op_def(node.op).view(node)
    if not all(each.is_constant and each.use_count == 1 for each in (layer.mean, layer.var, layer.scale)):
        return
    gain = batch_norm_gain(layer.gamma.data, layer.var.data, node.attrs["eps"])
    y = _raw(node, gain, values, evaluate)
    axes = tuple(axis for axis in range(y.ndim) if axis != 1)
    live = gain != 0  # a channel that is multiplied by 0 says nothing of its statistics
    mean = np.where(live, y.mean(axes), layer.mean.data)
    var = np.where(live, y.var(axes), layer.var.data)
    graph = node.graph
    graph.set_data(layer.mean, mean.astype(layer.mean.data.dtype))
    graph.set_data(layer.var, var.astype(layer.var.data.dtype))
    now = batch_norm_gain(layer.gamma.data, layer.var.data, node.attrs["eps"])
    before, after = _own_scale(layer, gain), _own_scale(layer, now)
    raised = (layer.scale.data * (after / before)).astype(np.float32)  # where a bias asked for more
    graph.set_data(layer.scale, np.where(layer.scale.data == before, after, raised))


def _own_scale(layer: Any, gain: Array) -> Array:
    """The scale of the folded weight, as its quantizer has it."""
    axis = 0 if layer.scale.data.size == len(gain) else None
    limit = int(layer.range[1]) - int(layer.zero_point.data[0])
    return weight_scale(layer.w.data * per_axis(gain, layer.w.type.rank, 0), limit, axis, get(layer.observer))


def _raw(node: Node, gain: Array, values: Mapping[Value, Array], evaluate: Evaluate) -> NDArray[np.float64]:
    """What the layer gives before it is normalized, [N, O, *S]: with its folded weight over gain, and its bias."""
    places = {name: op_def(node.op).place(name) for name in ("bias", "beta", "mean")}
    arrays = _arrays(node.operands, values)
    bias, zero = arrays[places["bias"]], np.zeros_like(gain)
    arrays[places["bias"]], arrays[places["beta"]], arrays[places["mean"]] = None, zero, zero
    attrs = node.attrs
    node.attrs = {**attrs, **NO_ACTIVATION}
    try:
        (y,) = evaluate(node, arrays)
    finally:
        node.attrs = attrs
    raw = y.astype(np.float64) / per_axis(np.where(gain == 0, np.inf, gain), y.ndim, 1)
    return raw if bias is None else raw + per_axis(bias, y.ndim, 1)
