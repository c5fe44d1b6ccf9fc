"""Fold batch normalization into the convolution or linear layer that feeds it.

    %1 = nn.conv(%x, @w, @b)                             %1 = nn.conv(%x, @w.folded, @b.folded)
    %2 = nn.batch_norm(%1, @g, @beta, @mean, @var)  ->
                                                         w.folded = w * gain             gain = g / sqrt(var + eps)
                                                         b.folded = (b - mean) * gain + beta

A batch normalization that follows no such layer becomes one: a depthwise 1x1 convolution with the weight `gain`, or for
[N, C] a linear layer with `gain` on its diagonal.
At the fake-quant level `quant.conv_batch_norm` and `quant.linear_batch_norm` become their layer with a
`quant.fake_quant` of the folded weight: the very same integers.

Declines when the layer has another use, carries an activation, or a parameter is not a constant.
Exact in real arithmetic; in float32 every weight is rounded once more.
"""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array, Builder, Graph, Node, Value
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.ops.quant import folded_bias, per_axis
from qgraph.passes.registry import graph_pass
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rewrite, rule

FAKE_QUANT_ATTRS = ("type", "range", "observer")
LAYERS = {"quant.conv_batch_norm": "nn.conv", "quant.linear_batch_norm": "nn.linear"}


@rule(pattern("nn.batch_norm", pattern("nn.conv|nn.linear", "x", "w", "b?", bind="layer"), bind="bn"))
def fold_into_layer(match: Match, build: Builder) -> Replacement:
    """Scale the layer's weight and bias."""
    layer, bn = match.nodes["layer"], match.nodes["bn"]
    w, b = match.values["w"], match.values.get("b")
    if not layer.result.has_one_use:
        return Declined("the layer's result is used elsewhere too")
    if layer.attrs["activation"] != "none":
        return Declined(f"the layer carries the activation {layer.attrs['activation']}")
    if not all(value.is_constant for value in [w, *([b] if b else []), *bn.inputs[1:]]):
        return Declined("a parameter is not a constant")
    if w.use_count > 1:
        return Declined("the weight is shared with another layer")
    weight, bias = _folded(w.data, b.data if b else None, [v.data for v in bn.inputs[1:]], bn.attrs["eps"])
    attrs = {**layer.attrs, "activation": bn.attrs["activation"]}
    operands = [match.values["x"], build.constant(weight, f"{w.name}.folded"), _bias_constant(build, bias, w, b)]
    return build.node(layer.op, operands, attrs).result


@rule(pattern("nn.batch_norm", "x", bind="bn"))
def become_layer(match: Match, build: Builder) -> Replacement:
    """Scale and shift each channel by a depthwise convolution, or features by a linear layer with a diagonal weight."""
    bn, x = match.nodes["bn"], match.values["x"]
    rank = x.type.rank - 2
    if not all(value.is_constant for value in bn.inputs[1:]):
        return Declined("a parameter is not a constant")
    parameters = [value.data for value in bn.inputs[1:]]
    ones = np.ones_like(parameters[0])
    gain, bias = _folded(ones, None, parameters, bn.attrs["eps"])
    weight = gain.reshape(-1, 1, *(1,) * rank) if rank else np.diag(gain)
    operands = [
        x,
        build.constant(weight, f"{bn.operand(1).name}.folded"),
        build.constant(bias, f"{bn.operand(2).name}.folded"),
    ]
    if not rank:
        return build.nn.linear(*operands, activation=bn.attrs["activation"])
    return build.nn.conv(
        *operands,
        stride=(1,) * rank,
        pads=(0,) * 2 * rank,
        dilation=(1,) * rank,
        groups=gain.size,
        activation=bn.attrs["activation"],
    )


@rule(pattern("|".join(LAYERS), "x", "w", bind="layer"))
def fold_live(match: Match, build: Builder) -> Replacement:
    """Fold a batch normalization that was alive in training: weight, then fake-quant of it."""
    node = match.nodes["layer"]
    bias = node.operands[2]
    w, scale, zero_point = node.operand(1), node.operand(7), node.operand(8)
    weight, folded = _folded(
        w.data, bias.data if bias else None, [node.operand(i).data for i in range(3, 7)], node.attrs["eps"]
    )
    kept = {key: node.attrs[key] for key in FAKE_QUANT_ATTRS}
    axis = 0 if scale.data.size == w.data.shape[0] else None
    constant = build.constant(weight, f"{w.name}.folded")
    quantized = build.node("quant.fake_quant", [constant, scale, zero_point], {**kept, "axis": axis, "symmetric": True})
    attrs = {k: v for k, v in node.attrs.items() if k not in (*FAKE_QUANT_ATTRS, "eps", "momentum")}
    operands = [match.values["x"], quantized.result, _bias_constant(build, folded, w, bias)]
    return build.node(LAYERS[node.op], operands, attrs).result


def _bias_constant(build: Builder, bias: Array, w: Value, b: Value | None) -> Value:
    name = b.name if b is not None else f"{w.name.removesuffix('.weight')}.bias"
    return build.constant(bias, f"{name}.folded")


def _folded(w: Array, b: Array | None, batch_norm: list[Array], eps: float) -> tuple[Array, Array]:
    gamma, beta, mean, var = batch_norm
    gain = batch_norm_gain(gamma, var, eps)
    return np.asarray(w * per_axis(gain, w.ndim, 0)), folded_bias(b, gain, beta, mean)


def is_foldable(bn: Node) -> bool:
    """Whether the layer before a batch normalization takes it in."""
    layer = bn.operand(0).producer
    return (
        layer is not None
        and layer.op in ("nn.conv", "nn.linear")
        and layer.result.has_one_use
        and layer.attrs["activation"] == "none"
        and layer.operand(1).is_constant
    )


@graph_pass
def fold_batchnorm(graph: Graph) -> None:
    rewrite(graph, [fold_into_layer, become_layer, fold_live])
    graph.drop_unused_constants()
