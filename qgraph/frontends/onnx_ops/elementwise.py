"""Arithmetic, comparisons, logic, and functions of one element."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from qgraph.frontends.composed import (
    arc,
    area,
    cast,
    hyperbolic,
    integer_sign,
    number,
    scaled,
    tangent,
    truncated_quotient,
    truncated_remainder,
)
from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops.rows import reads
from qgraph.ir import Builder, Value
from qgraph.ir.types import dtype_name
from qgraph.passes.rules.layer_scaling import per_channel

SAME = {
    **{
        name: name.lower()
        for name in (
            *("Abs", "Atan", "Ceil", "Cos", "Equal", "Erf", "Exp", "Floor", "Less", "Log", "Mish", "Mul"),
            *("Relu", "Round", "Sigmoid", "Sin", "Softsign", "Sqrt", "Sub", "Tanh", "Where"),
        )
    },
    **{"And": "logical_and", "Not": "logical_not", "Or": "logical_or", "Xor": "logical_xor"},
    **{"HardSwish": "hard_swish", "LessOrEqual": "less_equal"},
}
"""ONNX op -> the op of `nn` that is the same function of the same operands."""


@reads(*SAME)
def _same(node: OnnxNode, build: Builder) -> Value:
    return build.value(f"nn.{SAME[node.op]}", node.operands(), {})


@reads("Sign")
def _sign(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return build.nn.sign(x) if x.type.is_float else integer_sign(build, x)


@reads("Div")
def _div(node: OnnxNode, build: Builder) -> Value:
    """Of integers towards 0."""
    a, b = node.operands()
    return build.nn.div(a, b) if a.type.is_float else truncated_quotient(build, a, b)


@reads("Pow")
def _pow(node: OnnxNode, build: Builder) -> Value:
    """The exponent may be of another type; the result is of the base's."""
    x, exponent, data = node.operand(0), node.operand(1), node.known(1)
    if data is not None and exponent.type.dtype != x.type.dtype:
        exponent = build.constant(data.astype(x.type.numpy), node.inputs[1])
    return build.nn.pow(x, cast(build, exponent, x.type.dtype))


@reads("Identity")
def _identity(node: OnnxNode, build: Builder) -> Value:
    return node.operand(0)


CHAINS = {"Max": "maximum", "Min": "minimum", "Sum": "add", "Mean": "add"}


@reads(*CHAINS)
def _chain(node: OnnxNode, build: Builder) -> Value:
    """A commutative op of any number of operands, as one of two again and again."""
    first, *others = node.operands()
    made = reduce(lambda made, x: build.value(f"nn.{CHAINS[node.op]}", [made, x], {}), others, first)
    return scaled(build, made, 1 / (1 + len(others))) if node.op == "Mean" else made


@reads("Neg")
def _neg(node: OnnxNode, build: Builder) -> Value:
    return scaled(build, node.operand(0), -1)


@reads("Reciprocal")
def _reciprocal(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return build.nn.div(number(build, 1, x.type.dtype), x)


@reads("Mod")
def _mod(node: OnnxNode, build: Builder) -> Value:
    """The sign is that of the divisor, with `fmod` that of the dividend."""
    x, y = node.operands()
    return truncated_remainder(build, x, y) if node.attr("fmod", 0) else build.nn.remainder(x, y)


@reads("Greater", "GreaterOrEqual")
def _greater(node: OnnxNode, build: Builder) -> Value:
    a, b = node.operands()
    return build.nn.less(b, a) if node.op == "Greater" else build.nn.less_equal(b, a)


@reads("IsNaN")
def _is_nan(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return build.nn.not_equal(x, x)


@reads("IsInf")
def _is_inf(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    signs = {1: node.attr("detect_positive", 1), -1: node.attr("detect_negative", 1)}
    found = [
        build.nn.equal(x, number(build, sign * math.inf, x.type.dtype)) for sign, wanted in signs.items() if wanted
    ]
    if not found:
        raise node.unsupported("it detects nothing")
    return reduce(build.nn.logical_or, found)


@reads("Cast")
def _cast(node: OnnxNode, build: Builder) -> Value:
    import onnx

    node.attr("saturate", 1)  # of float8 alone
    dtype = dtype_name(onnx.helper.tensor_dtype_to_np_dtype(node.attr("to", 1)))
    return build.nn.cast(node.operand(0), dtype="f32" if dtype == "f64" else dtype)


@reads("CastLike")
def _cast_like(node: OnnxNode, build: Builder) -> Value:
    return cast(build, node.operand(0), node.operand(1).type.dtype)


# ---- functions of one element


@reads("Tan", "Sinh", "Cosh", "Asin", "Acos", "Asinh", "Acosh", "Atanh")
def _trigonometric(node: OnnxNode, build: Builder) -> Value:
    x, name = node.operand(0), node.op.lower()
    if name == "tan":
        return tangent(build, x)
    if name in ("sinh", "cosh"):
        return hyperbolic(build, x, name)
    return (arc if name in ("asin", "acos") else area)(build, x, name)


@reads("Clip")
def _clip(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    bounds = [_bound(node, *each) for each in (("min", 1, -math.inf), ("max", 2, math.inf))]
    if all(isinstance(bound, float) for bound in bounds) and x.type.is_float:
        return build.nn.relu6(x) if bounds == [0.0, 6.0] else build.nn.clamp(x, min=bounds[0], max=bounds[1])
    for bound, op, index in ((bounds[0], "nn.maximum", 1), (bounds[1], "nn.minimum", 2)):
        if node.has(index) or not isinstance(bound, float):
            x = build.value(op, [x, node.operand(index)], {})
    return x


def _bound(node: OnnxNode, name: str, index: int, default: float) -> float | None:
    """A bound that is a number; None for one that is computed."""
    return None if node.has(index) and node.known(index) is None else node.number(name, index, default)


@reads("HardSigmoid")
def _hard_sigmoid(node: OnnxNode, build: Builder) -> Value:
    x, alpha, beta = node.operand(0), node.attr("alpha", 0.2), node.attr("beta", 0.5)
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return build.nn.hard_sigmoid(x)
    line = build.nn.add(scaled(build, x, alpha), number(build, beta, x.type.dtype))
    return build.nn.clamp(line, min=0.0, max=1.0)


@reads("LeakyRelu")
def _leaky_relu(node: OnnxNode, build: Builder) -> Value:
    return build.nn.leaky_relu(node.operand(0), negative_slope=node.attr("alpha", 0.01))


@reads("PRelu")
def _prelu(node: OnnxNode, build: Builder) -> Value:
    """A slope for each channel is `nn.prelu`'s; others are written out."""
    x, slope = node.operand(0), node.operand(1)
    data = node.known(1)
    if data is not None and x.type.rank > 1 and per_channel(data, x.type, 1) is not None:
        return build.nn.prelu(x, build.constant(data.reshape(-1), node.inputs[1]))
    below = build.nn.less(x, number(build, 0, x.type.dtype))
    return build.nn.where(below, build.nn.mul(x, slope), x)


@reads("Elu", "Celu", "Selu")
def _elu(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    if node.op == "Selu":
        alpha = node.attr("alpha", 1.6732632423543772)
        return build.nn.elu(x, alpha=alpha, scale=node.attr("gamma", 1.0507009873554805))
    alpha = node.attr("alpha", 1.0)
    return build.nn.elu(x, alpha=alpha, input_scale=1 / alpha if node.op == "Celu" else 1.0)


@reads("Gelu")
def _gelu(node: OnnxNode, build: Builder) -> Value:
    return build.nn.gelu(node.operand(0), approximate=node.attr("approximate", "none"))


@reads("Softplus")
def _softplus(node: OnnxNode, build: Builder) -> Value:
    return build.nn.softplus(node.operand(0))


@reads("Swish")
def _swish(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return build.nn.mul(x, build.nn.sigmoid(scaled(build, x, node.attr("alpha", 1.0))))


@reads("ThresholdedRelu")
def _thresholded_relu(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    above = build.nn.less(number(build, node.attr("alpha", 1.0), x.type.dtype), x)
    return build.nn.where(above, x, number(build, 0, x.type.dtype))


@reads("Shrink")
def _shrink(node: OnnxNode, build: Builder) -> Value:
    x, bound, bias = node.operand(0), node.attr("lambd", 0.5), node.attr("bias", 0.0)
    if bias not in (0, bound):
        raise node.unsupported(f"bias={bias} is not supported, only 0 and lambd")
    return build.nn.soft_shrink(x, bound=bound) if bias else build.nn.hard_shrink(x, bound=bound)
