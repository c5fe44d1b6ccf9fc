"""Arithmetic element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.frontends.composed import scaled
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value
from qgraph.ir.derived import tie

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("add.Tensor", "add.Scalar")
def add(at: Importer, a: Arguments) -> Value:
    """a + b."""
    x, y = _summands(at, a)
    return at.build.nn.logical_or(x, y) if x.type.dtype == "bool" else at.build.nn.add(x, y)


@aten("sub.Tensor", "sub.Scalar")
def sub(at: Importer, a: Arguments) -> Value:
    """a - b."""
    return at.build.nn.sub(*_summands(at, a))


@aten("rsub.Scalar", "rsub.Tensor")
def rsub(at: Importer, a: Arguments) -> Value:
    """b - a."""
    return at.build.nn.sub(*reversed(_summands(at, a)))


@aten("mul.Tensor", "mul.Scalar")
def mul(at: Importer, a: Arguments) -> Value:
    """a * b."""
    x, y = at.pair(a["self"], a["other"])
    return at.build.nn.logical_and(x, y) if x.type.dtype == "bool" else at.build.nn.mul(x, y)


@aten("div.Tensor", "div.Scalar")
def div(at: Importer, a: Arguments) -> Value:
    """a / b; for a known b the product with the float32 nearest to 1 / b: it rounds twice, where a division rounds
    once, so the result may be one step of float32 beside torch's, unless b is a power of two."""
    x, divisor = (at.cast(value, "f32") for value in at.pair(a["self"], a["other"]))
    if not divisor.is_constant:
        return at.build.nn.div(x, divisor)
    with np.errstate(divide="ignore"):
        reciprocal = (1 / divisor.data.astype(np.float64)).astype(np.float32)
    made = at.build.constant(reciprocal, f"{divisor.name}.reciprocal")
    if at.trained.get(divisor.name, False):
        one = at.build.constant(np.array(1, np.float32), "one")
        tie(at.build.graph, made, lambda build, *pair: build.nn.div(*pair), one, divisor)
        at.trained[made.name] = True
    return at.build.nn.mul(x, made)


@aten("addcmul.default", "addcdiv.default")
def add_product(at: Importer, a: Arguments) -> Value:
    """x + value * a * b, or a / b."""
    x, y = at.pair(a["tensor1"], a["tensor2"])
    made = at.build.nn.mul(x, y) if "addcmul" in at.op else at.build.nn.div(x, y)
    return at.build.nn.add(at.value(a["self"]), scaled(at.build, made, a["value"]))


@aten("lerp.Scalar", "lerp.Tensor")
def lerp(at: Importer, a: Arguments) -> Value:
    """a + weight * (b - a)."""
    x, y = at.pair(a["self"], a["end"])
    _, weight = at.promoted(x, a["weight"])
    return at.build.nn.add(x, at.build.nn.mul(weight, at.build.nn.sub(y, x)))


@aten("neg.default")
def neg(at: Importer, a: Arguments) -> Value:
    """-x, as a product with -1."""
    return at.build.nn.mul(*at.pair(a["self"], -1))


def _summands(at: Importer, a: Arguments) -> tuple[Value, Value]:
    """a and alpha * b."""
    x, y = at.pair(a["self"], a["other"])
    return x, scaled(at.build, y, a["alpha"])
