"""Fold products and sums with constants into the convolution, transposed convolution or linear layer beside them.

    %1 = nn.conv(%x, @w, @b)          %1 = nn.conv(%x, @w.folded, @b.folded)
    %2 = nn.mul(%1, @c)           ->                                          w.folded = w * c
    %3 = nn.add(%2, @d)                                                       b.folded = b * c + d

The constant must be one number, or one for each channel. Before a layer, a factor folds into its weight, and a summand
into its bias unless the layer pads with zeros. A product of products with constants is one product, likewise sums.

Declines when the result between the two is used elsewhere, an activation stands between, or a parameter is not a
constant. Exact in real arithmetic; in float32 weights and biases are rounded once more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgraph.ir import Array, Builder, Graph, Node, Value
from qgraph.ops.nn.activation import NO_ACTIVATION, activation_attrs
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_constants import folded_name
from qgraph.passes.rewriter import Declined, Match, Pattern, Replacement, pattern, rewrite, rule
from qgraph.passes.rules.layer_scaling import (
    bias_constant,
    channel_axis,
    folded_weight,
    layer_pattern,
    obstacle_to_shift,
    per_channel,
    scaled_inputs,
    scaled_outputs,
    shift_of_outputs,
)

WIDENS = "the constant is not one number for each channel"


@dataclass(frozen=True)
class Affine:
    """x * gain + shift, channel by channel; None: without this part."""

    gain: Array | None
    shift: Array | None


def _affine(node: Node, constant: Array) -> Affine:
    """What an add, sub or mul with a constant does, which is given as one number for each channel."""
    if node.op == "nn.mul":
        return Affine(constant, None)
    if node.op == "nn.add":
        return Affine(None, constant)
    if node.operand(0).is_constant:
        return Affine(-np.ones_like(constant), constant)
    return Affine(None, -constant)


def fold_into_layer(match: Match, build: Builder) -> Replacement:
    """Scale and shift the layer's results by its weight and bias."""
    layer, node = match.nodes["layer"], match.nodes["node"]
    w, b = match.values["w"], match.values.get("b")
    constant = per_channel(match.values["c"].data, layer.result.type, channel_axis(layer))
    if constant is None or node.result.type != layer.result.type:
        return Declined(WIDENS)
    affine = _affine(node, constant)
    bias = b.data if b else None
    operands: list[Value | None] = [match.values["x"], w, b]
    if affine.gain is not None:
        operands[1] = folded_weight(build, scaled_outputs(layer, w.data, affine.gain), w)
        bias = None if bias is None else bias * affine.gain
    if affine.shift is not None:
        bias = affine.shift if bias is None else bias + affine.shift
    if bias is not None:
        operands[2] = bias_constant(build, bias, w, b)
    return build.node(layer.op, operands, {**layer.attrs, **activation_attrs(node.attrs)}).result


def fold_into_next(match: Match, build: Builder) -> Replacement:
    """Scale and shift the layer's inputs by its weight and bias."""
    layer, node, x = match.nodes["layer"], match.nodes["node"], match.values["x"]
    w, b = match.values["w"], match.values.get("b")
    constant = per_channel(match.values["c"].data, x.type, channel_axis(layer))
    if constant is None or node.result.type != x.type:
        return Declined(WIDENS)
    affine = _affine(node, constant)
    operands: list[Value | None] = [x, w, b]
    if affine.shift is not None:
        if obstacle_to_shift(layer):
            return Declined(obstacle_to_shift(layer))
        added = shift_of_outputs(layer, w.data, affine.shift)
        operands[2] = bias_constant(build, added if b is None else b.data + added, w, b)
    if affine.gain is not None:
        operands[1] = folded_weight(build, scaled_inputs(layer, w.data, affine.gain), w)
    return build.node(layer.op, operands, layer.attrs).result


def _before(inner: Pattern | str, *, alone: bool) -> list[Pattern]:
    """Patterns of an add, sub or mul, bound to "node", of `inner` with a constant c on either side."""
    more = {"uses": 1, "attrs": NO_ACTIVATION} if alone else {}
    return [
        pattern("nn.mul|nn.add", inner, "@c", commutative=True, bind="node", **more),  # type: ignore[arg-type]
        pattern("nn.sub", inner, "@c", bind="node", **more),  # type: ignore[arg-type]
        pattern("nn.sub", "@c", inner, bind="node", **more),  # type: ignore[arg-type]
    ]


PRODUCT = pattern("nn.mul", "x", "@c", commutative=True, uses=1, attrs=NO_ACTIVATION)
SUM = pattern("nn.add", "x", "@c", commutative=True, uses=1, attrs=NO_ACTIVATION)


@rule(pattern("nn.mul", PRODUCT, "@d", commutative=True, bind="node"))
def merge_products(match: Match, build: Builder) -> Replacement:
    """One product for two with constants."""
    c, d = match.values["c"], match.values["d"]
    return _merged(match, build, build.constant(np.multiply(c.data, d.data), folded_name(c.name)))


@rule(pattern("nn.add", SUM, "@d", commutative=True, bind="node"))
def merge_sums(match: Match, build: Builder) -> Replacement:
    """One sum for two with constants."""
    c, d = match.values["c"], match.values["d"]
    return _merged(match, build, build.constant(np.add(c.data, d.data), folded_name(c.name)))


def _merged(match: Match, build: Builder, constant: Value) -> Value:
    return build.node(match.root.op, [match.values["x"], constant], match.root.attrs).result


RULES = [
    *(rule(shape)(fold_into_layer) for shape in _before(layer_pattern(followed=True), alone=False)),
    *(rule(layer_pattern(shape, followed=False))(fold_into_next) for shape in _before("x", alone=True)),
    merge_products,
    merge_sums,
]


@graph_pass(exact="real", needs={"layout": "NCHW"})
def fold_mul_add(graph: Graph) -> None:
    rewrite(graph, RULES)
    graph.drop_unused_constants()
