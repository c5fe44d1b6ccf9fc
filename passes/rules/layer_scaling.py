"""Scaling what a layer takes or gives, channel by channel, by scaling its weight.

A layer is a convolution, a transposed convolution or a linear layer: linear in its input, so that a factor for each
channel moves into the weight. Shapes: `nn.conv` [O, C/groups, *K], `nn.conv_transpose` [C, O/groups, *K], `nn.linear`
[O, C].
"""

from __future__ import annotations

from functools import cache

import numpy as np

from qgraph.ir import Array, Builder, Node, TensorType, Value, op_def
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.ops.quant import per_axis
from qgraph.passes.fold_constants import folded_name
from qgraph.passes.rewriter import OpsThat, Pattern, pattern

LAYERS = OpsThat("are linear in their input", lambda op: op.traits.linear)


def layer_pattern(x: Pattern | str = "x", *, followed: bool) -> Pattern:
    """A layer with constant parameters, bound to "layer", its operands to x, w and b; where it is `followed` by what
    folds into it, nothing else reads its result and it carries no activation."""
    if followed:
        return pattern(LAYERS, x, "@w", "@b?", uses=1, attrs=NO_ACTIVATION, bind="layer")
    return pattern(LAYERS, x, "@w", "@b?", bind="layer")


def channel_axis(layer: Node) -> int:
    """The dimension of the layer's input and result that holds the channels."""
    return (op_def(layer.op).channel_axis or 0) % layer.result.type.rank


@cache
def _gives_first(op: str) -> bool:
    """Whether the first dimension of a layer's weight is the channels that it gives, not those that it takes."""
    definition = op_def(op)
    place = definition.operand_index("weight")
    return place is not None and definition.operands[place].pattern.axis("O") == 0


def scaled_outputs(layer: Node, w: Array, gain: Array) -> Array:
    """The weight with which every result channel is `gain` [O] times what it was."""
    if _gives_first(layer.op):
        return np.asarray(w * per_axis(gain, w.ndim, 0))
    groups = layer.attrs["groups"]
    grouped = w.reshape(groups, -1, *w.shape[1:])  # [G, C/G, O/G, *K]
    return np.asarray(grouped * gain.reshape(groups, 1, -1, *(1,) * (w.ndim - 2))).reshape(w.shape)


def scaled_inputs(layer: Node, w: Array, gain: Array) -> Array:
    """The weight with which the layer gives for x what it gave for x * `gain` [C]."""
    if not _gives_first(layer.op):
        return np.asarray(w * per_axis(gain, w.ndim, 0))
    return np.asarray(w * _per_input(layer, w, gain)).reshape(w.shape)


def largest_outputs(layer: Node, w: Array) -> Array:
    """The largest magnitude among the weights of each channel that the layer gives [O]."""
    if _gives_first(layer.op):
        return np.asarray(np.abs(w).reshape(len(w), -1).max(axis=1))
    grouped = np.abs(w).reshape(layer.attrs["groups"], -1, *w.shape[1:])  # [G, C/G, O/G, *K]
    return np.asarray(np.moveaxis(grouped, 2, 1).reshape(grouped.shape[0] * grouped.shape[2], -1).max(axis=1))


def largest_inputs(layer: Node, w: Array) -> Array:
    """The largest magnitude among the weights of each channel that the layer takes [C]."""
    if not _gives_first(layer.op):
        return np.asarray(np.abs(w).reshape(len(w), -1).max(axis=1))
    groups = layer.attrs.get("groups", 1)
    grouped = np.abs(w).reshape(groups, -1, *w.shape[1:])  # [G, O/G, C/G, *K]
    return np.asarray(np.moveaxis(grouped, 2, 1).reshape(groups * grouped.shape[2], -1).max(axis=1))


def _per_input(layer: Node, w: Array, values: Array) -> Array:
    """`values` [C] for every element of the weight of a convolution or linear layer."""
    groups = layer.attrs.get("groups", 1)
    grouped = values.reshape(groups, 1, -1)  # [G, 1, C/G]
    given = np.broadcast_to(grouped, (groups, w.shape[0] // groups, grouped.shape[2]))
    return given.reshape(w.shape[0], -1, *(1,) * (w.ndim - 2))


def obstacle_to_shift(layer: Node) -> str:
    """Why a shift of the layer's input is no shift of its result; "" where it is."""
    if not _gives_first(layer.op):
        return "at the borders of a transposed convolution fewer products are added"
    if any(layer.attrs.get("pads", ())):
        return "the zeros that the convolution pads with are not shifted"
    return ""


def shift_of_outputs(layer: Node, w: Array, shift: Array) -> Array:
    """What adding `shift` [C] to the layer's input adds to its result [O]; summed in float64."""
    wide = w.astype(np.float64) * _per_input(layer, w, shift)
    return np.asarray(wide.reshape(w.shape[0], -1).sum(axis=1)).astype(w.dtype)


def per_channel(constant: Array, type: TensorType, axis: int) -> Array | None:
    """A constant that broadcasts against a value of that type, as one number for each index of `axis`; None where it
    differs elsewhere, or widens the value."""
    size = type.shape[axis]
    if constant.ndim > type.rank or not isinstance(size, int):
        return None
    full = constant.reshape((1,) * (type.rank - constant.ndim) + constant.shape)
    if full.size != full.shape[axis] or full.size not in (1, size):
        return None
    return np.broadcast_to(full.reshape(-1), (size,))


def bias_constant(build: Builder, bias: Array, w: Value, b: Value | None) -> Value:
    """The folded bias as a constant, named after the old one, or after the weight where there was none."""
    stem = folded_name(w.name).removesuffix(".folded").removesuffix(".weight")
    return build.constant(bias, folded_name(b.name if b is not None else f"{stem}.bias"))


def folded_weight(build: Builder, weight: Array, w: Value) -> Value:
    """The folded weight as a constant, named after the old one."""
    return build.constant(weight, folded_name(w.name))
