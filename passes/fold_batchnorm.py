"""Fold batch normalization into the convolution, transposed convolution or linear layer that feeds it.

    %1 = nn.conv(%x, @w, @b)                             %1 = nn.conv(%x, @w.folded, @b.folded)
    %2 = nn.batch_norm(%1, @g, @beta, @mean, @var)  ->
                                                         w.folded = w * gain             gain = g / sqrt(var + eps)
                                                         b.folded = (b - mean) * gain + beta

Behind a concat of such layers it is split, one part for each. A weight that several layers share is folded for each of
them. Where no such layer comes before, it folds into the layer behind it, if the shift reaches every product: no
padding, or no shift. What is left becomes a depthwise 1x1 convolution with the weight `gain` (`alone=conv`), for [N, C]
between two reshapes; or nn.mul and nn.add (`alone=scale-shift`); or it stays (`alone=keep`).
At the fake-quant level `quant.conv_batch_norm` and `quant.linear_batch_norm` become their layer with a
`quant.fake_quant` of the folded weight: the very same integers.

Declines when the layer has another use, carries an activation, or a parameter is not a constant.
Exact in real arithmetic; in float32 every weight is rounded once more.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import numpy as np

from qgraph.errors import InputError
from qgraph.ir import Array, Builder, Graph, Node, Value, op_def
from qgraph.ir.trained import keeping_trained
from qgraph.ops.nn.activation import NO_ACTIVATION, activation_attrs
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.ops.quant import folded_bias
from qgraph.passes.batchnorm_to_scale_shift import scale_and_shift
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_constants import folded_name
from qgraph.passes.rewriter import Declined, Match, Replacement, every, pattern, rewrite, rule
from qgraph.passes.rules.layer_scaling import (
    LAYERS,
    bias_constant,
    folded_weight,
    layer_pattern,
    obstacle_to_shift,
    scaled_inputs,
    scaled_outputs,
    shift_of_outputs,
)

QUANTIZATION_ATTRS = ("type", "range", "observer")
NORMALIZATION_ATTRS = ("eps", "momentum", "batches")
LIVE_LAYERS = {"quant.conv_batch_norm": "nn.conv", "quant.linear_batch_norm": "nn.linear"}
PARAMETERS = ("@gamma", "@beta", "@mean", "@var")


def _parameters(bn: Node) -> list[Array]:
    """gamma, beta, mean and var."""
    return [value.data for value in bn.inputs[1:]]


def _features_are_channels(layer: Node, bn: Node) -> bool:
    """Whether what a layer gives or takes in one place is what the batch normalization beside it scales alike."""
    return layer.op != "nn.linear" or bn.result.type.rank == 2


@rule(pattern("nn.batch_norm", layer_pattern(followed=True), *PARAMETERS, bind="bn"))
def fold_into_layer(match: Match, build: Builder) -> Replacement:
    """Scale the layer's weight and bias."""
    layer, bn = match.nodes["layer"], match.nodes["bn"]
    w, b = match.values["w"], match.values.get("b")
    if not _features_are_channels(layer, bn):
        return Declined("the linear layer's features are not the channels of the batch normalization")
    gamma, beta, mean, var = _parameters(bn)
    gain = batch_norm_gain(gamma, var, bn.attrs["eps"])
    weight, bias = scaled_outputs(layer, w.data, gain), folded_bias(b.data if b else None, gain, beta, mean)
    operands = [match.values["x"], folded_weight(build, weight, w), bias_constant(build, bias, w, b)]
    return build.node(layer.op, operands, {**layer.attrs, **activation_attrs(bn.attrs)}).result


LAYER = pattern(LAYERS, "_", "@_", "@_?", uses=1, attrs=NO_ACTIVATION)
CONCAT_OF_LAYERS = pattern("nn.concat", every(LAYER), uses=1, attrs={"axis": 1}, bind="concat")


@rule(pattern("nn.batch_norm", CONCAT_OF_LAYERS, *PARAMETERS, bind="bn"))
def split_over_concat(match: Match, build: Builder) -> Replacement:
    """Normalize each part of a concat of layers by its own part of the parameters."""
    bn, parts = match.nodes["bn"], match.nodes["concat"].inputs
    if not all(_features_are_channels(part.producer, bn) for part in parts if part.producer is not None):
        return Declined("the linear layers' features are not the channels of the batch normalization")
    ends = np.cumsum([int(part.type.shape[1]) for part in parts])
    made = []
    for part, end in zip(parts, ends.tolist(), strict=True):
        place = slice(end - int(part.type.shape[1]), end)
        constants = [build.constant(value.data[place], value.name) for value in bn.inputs[1:]]
        made.append(build.node("nn.batch_norm", [part, *constants], bn.attrs).result)
    return build.nn.concat(*made, axis=1)


ALONE = pattern("nn.batch_norm", "x", *PARAMETERS, uses=1, attrs=NO_ACTIVATION, bind="bn")


@rule(layer_pattern(ALONE, followed=False))
def fold_into_next(match: Match, build: Builder) -> Replacement:
    """Scale the inputs of the layer behind, and add what the shift amounts to to its bias."""
    layer, bn = match.nodes["layer"], match.nodes["bn"]
    w, b = match.values["w"], match.values.get("b")
    if not _features_are_channels(layer, bn):
        return Declined("the channels of the batch normalization are not the linear layer's features")
    gamma, beta, mean, var = _parameters(bn)
    gain = batch_norm_gain(gamma, var, bn.attrs["eps"])
    shift = beta - mean * gain
    operands = [match.values["x"], folded_weight(build, scaled_inputs(layer, w.data, gain), w), b]
    if shift.any():
        if obstacle_to_shift(layer):
            return Declined(obstacle_to_shift(layer))
        added = shift_of_outputs(layer, w.data, shift)
        operands[2] = bias_constant(build, added if b is None else b.data + added, w, b)
    return build.node(layer.op, operands, layer.attrs).result


@rule(pattern("nn.batch_norm", "x", *PARAMETERS, bind="bn"))
def become_layer(match: Match, build: Builder) -> Replacement:
    """Scale and shift each channel by a depthwise convolution; features are pixels for it, between two reshapes."""
    bn, x = match.nodes["bn"], match.values["x"]
    gamma, beta, mean, var = _parameters(bn)
    gain = batch_norm_gain(gamma, var, bn.attrs["eps"])
    features = x.type.rank == 2
    x = build.nn.reshape(x, shape=(-1, gain.size, 1, 1)) if features else x
    ones = (1,) * (x.type.rank - 2)
    operands = [
        x,
        build.constant(gain.reshape(-1, 1, *ones), folded_name(bn.operand(1).name)),
        build.constant(folded_bias(None, gain, beta, mean), folded_name(bn.operand(2).name)),
    ]
    words = {"stride": ones, "pads": (0,) * 2 * len(ones), "dilation": ones, "groups": gain.size}
    made: Value = build.nn.conv(*operands, **words, **activation_attrs(bn.attrs))
    return build.nn.reshape(made, shape=(-1, gain.size)) if features else made


@rule(pattern("|".join(LIVE_LAYERS), "x", "w", bind="layer"))
def fold_live(match: Match, build: Builder) -> Replacement:
    """Fold a batch normalization that was alive in training: weight, then fake-quant of it."""
    node = match.nodes["layer"]
    bias = node.operands[2]
    w, scale, zero_point = node.operand(1), node.operand(7), node.operand(8)
    gamma, beta, mean, var = (node.operand(i).data for i in range(3, 7))
    gain = batch_norm_gain(gamma, var, node.attrs["eps"])
    weight, folded = scaled_outputs(node, w.data, gain), folded_bias(bias.data if bias else None, gain, beta, mean)
    kept = {key: node.attrs[key] for key in QUANTIZATION_ATTRS}
    axis = 0 if scale.data.size == w.data.shape[0] else None
    constant = folded_weight(build, weight, w)
    quantized = build.node("quant.fake_quant", [constant, scale, zero_point], {**kept, "axis": axis, "symmetric": True})
    attrs = {k: v for k, v in node.attrs.items() if k not in (*QUANTIZATION_ATTRS, *NORMALIZATION_ATTRS)}
    shift = bias_constant(build, folded, w, bias)
    x_scale = op_def(node.op).view(node).x_scale
    if x_scale is not None:
        shift = build.quant.fake_quant_bias(shift, x_scale, scale)
    operands = [match.values["x"], quantized.result, shift]
    return build.node(LIVE_LAYERS[node.op], operands, attrs).result


def is_foldable(bn: Node) -> bool:
    """Whether the convolution or linear layer before a batch normalization takes it in and keeps it alive."""
    layer = bn.operand(0).producer
    return (
        layer is not None
        and layer.op in LIVE_LAYERS.values()
        and _features_are_channels(layer, bn)
        and layer.result.has_one_use
        and layer.attrs["activation"] == "none"
        and layer.operand(1).is_constant
    )


LEFT = {"conv": [become_layer], "scale-shift": [scale_and_shift], "keep": []}
"""Rules for a batch normalization that no layer takes in."""


@graph_pass(exact="real", needs={"layout": "NCHW"})
def fold_batchnorm(graph: Graph, alone: Literal["conv", "scale-shift", "keep"] = "conv") -> None:
    if alone not in LEFT:
        raise InputError(f"alone={alone!r} is not a choice", help=f"choose from {', '.join(LEFT)}")
    rewrite(graph, [split_over_concat, fold_into_layer, fold_into_next, fold_live])
    with keeping_trained(graph) if alone == "scale-shift" else nullcontext():
        rewrite(graph, LEFT[alone])
        graph.drop_unused_constants()
