"""Weights that are rounded otherwise than to the nearest: which layers have such, and as which rows they are seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Array, Graph, Node
from qgraph.ops.nn.linear import window_columns
from qgraph.ops.quant import per_axis, unquantized
from qgraph.passes.rules.layer_scaling import channel_axis
from qgraph.ptq.side_by_side import Layer, improve_layers
from qgraph.quantizers.registry import get

Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """A group of rows of a layer's weight, of what has one set of inputs.

    `weight` [O, K], `scale` [O, 1], codes between `low` and `high`; `x` [M, K]: what each row is multiplied by in the
    quantized graph; `wanted` [M, O]: the results less the bias, where they are those of the float model.
    """

    weight: Wide
    scale: Wide
    low: int
    high: int
    x: Array
    wanted: Array

    def nearest(self) -> Wide:
        """The codes that are nearest."""
        return np.clip(np.rint(self.weight / self.scale), self.low, self.high)


def round_weights(graph: Graph, examples: Inputs, codes: Callable[[Rows], Wide], reference: Graph | None) -> Graph:
    """The graph with the weights of its convolutions and linear layers on the codes [O, K] that `codes` gives for each
    group of rows, on the grids that they have.

    Transposed convolutions and weights that several layers share stay; so do rows whose new weights would need another
    scale than they have, which a target's rule may ask for. Further as `improve_layers`.
    """
    return improve_layers(graph, examples, lambda layer: round_layer(layer, codes), reference)


def round_layer(layer: Layer, codes: Callable[[Rows], Wide]) -> None:
    """Put the weight of one layer on the codes that `codes` gives."""
    if not can_be_rounded(layer.node):
        return
    node, fake_quant = layer.node, layer.node.operand(1).producer
    assert fake_quant is not None
    weight = fake_quant.operand(0)
    w, groups, scale = weight.data, int(node.attrs.get("groups", 1)), scales_of(fake_quant)
    rows, steps = (each.reshape(groups, len(w) // groups, -1).astype(np.float64) for each in (w, scale))
    low, high = fake_quant.attrs["range"]
    given = zip(rows, steps[..., :1], _columns(node, layer.rounded[0], groups), _wanted(layer, groups), strict=True)
    made = [codes(Rows(row, step, low, high, x, wanted)) for row, step, x, wanted in given]
    found = (np.stack(made).reshape(w.shape) * scale).astype(w.dtype)
    node.graph.set_data(weight, np.where(fits(fake_quant, found), found, w))


def can_be_rounded(layer: Node) -> bool:
    """Whether the weight of a layer, which is rounded, is its own, and its rows are what one input is multiplied by."""
    fake_quant = layer.operand(1).producer
    assert fake_quant is not None
    if layer.op not in ("nn.conv", "nn.linear") or layer.operand(1).use_count > 1:
        return False
    weight = fake_quant.operand(0)
    return weight.is_constant and weight.use_count == 1 and fake_quant.attrs["axis"] in (None, 0)


def scales_of(fake_quant: Node) -> Array:
    """The scale of each element of a fake-quantized weight."""
    shape = fake_quant.operand(0).data.shape
    return np.broadcast_to(per_axis(fake_quant.operand(1).data, len(shape), fake_quant.attrs["axis"]), shape)


def _columns(node: Node, x: Array | None, groups: int) -> Array:
    """What each row of the weight is multiplied by: [G, M, K]."""
    assert x is not None
    if node.op == "nn.linear":
        return x.reshape(1, -1, x.shape[-1])
    a = node.attrs
    return window_columns(x, node.operand(1).type.shape[2:], a["stride"], a["pads"], a["dilation"], groups)[0]  # type: ignore[arg-type]


def _wanted(layer: Layer, groups: int) -> Array:
    """The results of the float model less the bias of the quantized one: [G, M, O]."""
    y = np.moveaxis(layer.results(layer.real), channel_axis(layer.node), -1)
    bias = unquantized(layer.node.inputs[2]) if len(layer.node.inputs) > 2 else None
    y = y if bias is None or not bias.is_constant else y - bias.data
    return np.moveaxis(y.reshape(-1, groups, y.shape[-1] // groups), 1, 0)


def fits(fake_quant: Node, w: Array) -> Array:
    """Which rows need no larger scale than they have, by the quantizer of the weight; [O, 1, ...]."""
    quantizer = get(fake_quant.attrs["observer"])
    if not quantizer.binding:
        return np.ones((len(w), *(1,) * (w.ndim - 1)), bool)
    needed = quantizer.scale(w.reshape(len(w), -1), fake_quant.attrs["range"][1])
    return np.asarray(needed <= fake_quant.operand(1).data * (1 + 1e-6)).reshape(-1, *(1,) * (w.ndim - 1))
