"""Functions of one element, powers, and quotients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.composed import (
    arc,
    area,
    hyperbolic,
    integer_sign,
    scaled,
    tangent,
    truncated,
    truncated_quotient,
    truncated_remainder,
)
from qgraph.frontends.torch_ops.rows import OTHER_NAMES, Arguments, aten
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


UNARY = {
    **{name: name for name in ("exp", "log", "sqrt", "rsqrt", "sin", "cos", "atan", "erf")},
    **{"mish": "mish", "softsign": "softsign", "log_sigmoid": "log_sigmoid"},
}
"""ATen op -> the op of `nn` that is the same function of one element."""


OWN_NAME = {other: name for name, others in OTHER_NAMES.items() for other in others}


@aten(*(f"{name}.default" for name in UNARY))
def unary(at: Importer, a: Arguments) -> Value:
    """A function that `nn` has under its own name."""
    made: Value = getattr(at.build.nn, UNARY[OWN_NAME.get(word := at.op.split(".")[1].removesuffix("_"), word)])(
        at.value(a["self"], floats=True)
    )
    return made


@aten("abs.default")
def absolute(at: Importer, a: Arguments) -> Value:
    """x without its sign."""
    return at.build.nn.abs(at.value(a["self"]))


@aten("round.default", "floor.default", "ceil.default", "trunc.default")
def rounded(at: Importer, a: Arguments) -> Value:
    """A whole number; integers are."""
    x = at.value(a["self"])
    if not x.type.is_float:
        return x
    name = at.op.split(".")[1].removesuffix("_")
    return truncated(at.build, x) if name == "trunc" else at.build.value(f"nn.{name}", [x], {})


@aten("sign.default")
def sign(at: Importer, a: Arguments) -> Value:
    """-1, 0 or 1."""
    x = at.value(a["self"])
    return at.build.nn.sign(x) if x.type.is_float else integer_sign(at.build, x)


@aten("diff.default")
def difference(at: Importer, a: Arguments) -> Value:
    """Each element less the one before it."""
    x = at.value(a["self"])
    axis = a["dim"] % x.type.rank
    parts = [at.value(a["prepend"])] if a["prepend"] is not None else []
    parts += [x, *([at.value(a["append"])] if a["append"] is not None else [])]
    x = at.build.nn.concat(*parts, axis=axis) if len(parts) > 1 else x
    for _ in range(a["n"]):
        size = x.type.shape[axis]
        if isinstance(size, str):
            raise TypeMismatch(f"differences along the symbolic size {size} are not supported")
        later, earlier = (at.build.nn.slice(x, axis=axis, start=i, end=size - 1 + i) for i in (1, 0))
        x = at.build.nn.sub(later, earlier)
    return x


@aten("log1p.default")
def log1p(at: Importer, a: Arguments) -> Value:
    """log(1 + x)."""
    return at.build.nn.log(at.build.nn.add(*at.pair(a["self"], 1.0)))


@aten("expm1.default")
def expm1(at: Importer, a: Arguments) -> Value:
    """exp(x) - 1."""
    return at.build.nn.sub(at.build.nn.exp(at.value(a["self"], floats=True)), at.value(1.0))


@aten("exp2.default")
def exp2(at: Importer, a: Arguments) -> Value:
    """2 to the power of x."""
    return at.build.nn.pow(*at.pair(2.0, a["self"]))


@aten("erfc.default")
def erfc(at: Importer, a: Arguments) -> Value:
    """1 - erf(x)."""
    return at.build.nn.sub(at.value(1.0), at.build.nn.erf(at.value(a["self"], floats=True)))


@aten("log2.default", "log10.default")
def logarithm(at: Importer, a: Arguments) -> Value:
    """A logarithm of another base."""
    base = 2 if "log2" in at.op else 10
    return scaled(at.build, at.build.nn.log(at.value(a["self"], floats=True)), 1 / math.log(base))


@aten("reciprocal.default")
def reciprocal(at: Importer, a: Arguments) -> Value:
    """1 / x."""
    return at.build.nn.div(*at.pair(1.0, a["self"]))


@aten("square.default")
def square(at: Importer, a: Arguments) -> Value:
    """x * x."""
    x = at.value(a["self"])
    return at.build.nn.mul(x, x)


@aten("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def power(at: Importer, a: Arguments) -> Value:
    """a to the power of b; small whole powers are products, as torch computes them."""
    exponent = a["exponent"]
    x = at.as_result(a["self"])
    if not isinstance(exponent, (int, float)) or exponent not in (0.5, -0.5, 1, 2, 3):
        return at.build.nn.pow(x, at.as_result(exponent))
    if abs(exponent) == 0.5:
        return (at.build.nn.sqrt if exponent > 0 else at.build.nn.rsqrt)(x)
    made = x
    for _ in range(int(exponent) - 1):
        made = at.build.nn.mul(made, x)
    return made


@aten("div.Tensor_mode", "div.Scalar_mode", "floor_divide.default", "floor_divide.Scalar")
def whole_quotient(at: Importer, a: Arguments) -> Value:
    """a / b, rounded down, or towards 0."""
    mode = a.get("rounding_mode", "floor")
    x, y = at.pair(a["self"], a["other"])
    if mode is None:
        return at.build.nn.div(x, y)
    if mode == "floor":
        return at.build.nn.floor_div(x, y)
    return truncated_quotient(at.build, x, y)


@aten("remainder.Tensor", "remainder.Scalar")
def remainder(at: Importer, a: Arguments) -> Value:
    """a - b * floor(a / b)."""
    return at.build.nn.remainder(*at.pair(a["self"], a["other"]))


@aten("maximum.default", "max.other")
def maximum(at: Importer, a: Arguments) -> Value:
    """The larger of two elements."""
    return at.build.nn.maximum(*at.pair(a["self"], a["other"]))


@aten("minimum.default", "min.other")
def minimum(at: Importer, a: Arguments) -> Value:
    """The smaller of two elements."""
    return at.build.nn.minimum(*at.pair(a["self"], a["other"]))


@aten("gelu.default")
def gelu(at: Importer, a: Arguments) -> Value:
    """Gaussian error linear unit, in both forms."""
    return at.build.nn.gelu(at.value(a["self"]), approximate=a["approximate"])


@aten("elu.default", "selu.default", "celu.default")
def elu(at: Importer, a: Arguments) -> Value:
    """Exponential linear units; the constants of selu are those of Klambauer et al. 2017."""
    x = at.value(a["self"])
    if "selu" in at.op:
        return at.build.nn.elu(x, alpha=1.6732632423543772848170429916717, scale=1.0507009873554804934193349852946)
    if "celu" in at.op:
        return at.build.nn.elu(x, alpha=a["alpha"], input_scale=1 / a["alpha"])
    return at.build.nn.elu(x, alpha=a["alpha"], scale=a["scale"], input_scale=a["input_scale"])


@aten("softplus.default")
def softplus(at: Importer, a: Arguments) -> Value:
    """log(1 + exp(x))."""
    return at.build.nn.softplus(at.value(a["self"]), beta=a["beta"], threshold=a["threshold"])


@aten("hardshrink.default")
def hard_shrink(at: Importer, a: Arguments) -> Value:
    """x, or 0 near 0."""
    return at.build.nn.hard_shrink(at.value(a["self"]), bound=a["lambd"])


@aten("softshrink.default")
def soft_shrink(at: Importer, a: Arguments) -> Value:
    """x nearer to 0."""
    return at.build.nn.soft_shrink(at.value(a["self"]), bound=a["lambd"])


@aten("tanhshrink.default")
def tanh_shrink(at: Importer, a: Arguments) -> Value:
    """x - tanh(x)."""
    x = at.value(a["self"])
    return at.build.nn.sub(x, at.build.nn.tanh(x))


@aten("prelu.default", "_prelu_kernel.default")
def prelu(at: Importer, a: Arguments) -> Value:
    """x, or x times a slope that is learned."""
    return at.build.nn.prelu(at.value(a["self"]), at.value(a["weight"]))


@aten("rrelu.default")
def rrelu(at: Importer, a: Arguments) -> Value:
    """In eval mode a leaky_relu by the mean of the slopes."""
    if a["training"]:
        raise TypeMismatch("rrelu that acts in eval mode is not supported: its result is random")
    return at.build.nn.leaky_relu(at.value(a["self"]), negative_slope=(a["lower"] + a["upper"]) / 2)


@aten("threshold.default")
def threshold(at: Importer, a: Arguments) -> Value:
    """x above a threshold, else a number."""
    x, bound = at.pair(a["self"], a["threshold"])
    return at.build.nn.where(at.build.nn.less(bound, x), x, at.value(a["value"]))


@aten("glu.default")
def glu(at: Importer, a: Arguments) -> Value:
    """The first half of the channels times the sigmoid of the second."""
    x = at.value(a["self"])
    axis = a["dim"] % x.type.rank
    half = int(x.type.shape[axis]) // 2
    kept, gate = (at.build.nn.slice(x, axis=axis, start=i * half, end=(i + 1) * half) for i in range(2))
    return at.build.nn.mul(kept, at.build.nn.sigmoid(gate))


@aten("log_softmax.int", "_log_softmax.default")
def log_softmax(at: Importer, a: Arguments) -> Value:
    """The logarithm of the softmax over one dimension."""
    x = at.value(a["self"])
    return at.build.nn.log_softmax(x, axis=a["dim"] % x.type.rank)


@aten("fmod.Tensor", "fmod.Scalar")
def fmod(at: Importer, a: Arguments) -> Value:
    """What is left of a, with its sign."""
    return truncated_remainder(at.build, *at.pair(a["self"], a["other"]))


@aten("tan.default")
def tan(at: Importer, a: Arguments) -> Value:
    """sin / cos."""
    return tangent(at.build, at.value(a["self"]))


@aten("sinh.default", "cosh.default")
def sinh_or_cosh(at: Importer, a: Arguments) -> Value:
    """Hyperbolic functions."""
    return hyperbolic(at.build, at.value(a["self"]), "sinh" if "sinh" in at.op else "cosh")


@aten("asin.default", "acos.default")
def inverse_sine(at: Importer, a: Arguments) -> Value:
    """The angle of a sine, or of a cosine."""
    return arc(at.build, at.value(a["self"]), "asin" if "asin" in at.op else "acos")


@aten("asinh.default", "acosh.default", "atanh.default")
def inverse_hyperbolic(at: Importer, a: Arguments) -> Value:
    """What sinh, cosh or tanh is of."""
    name = at.op.split(".")[1].removesuffix("_").replace("arc", "a")
    return area(at.build, at.value(a["self"]), name)
