"""Maxima, minima, products and sums of the elements up to each along a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("cumsum.default")
def cumsum(at: Importer, a: Arguments) -> Value:
    """The sums of the elements up to each."""
    x = at.cast(at.value(a["self"]), at.result_type().dtype)
    return at.build.nn.cumsum(x, axis=a["dim"] % x.type.rank)


@aten("cumprod.default")
def cumprod(at: Importer, a: Arguments) -> Value:
    """The products of the elements up to each."""
    x = at.cast(at.value(a["self"]), at.result_type().dtype)
    return _up_to_each(at, "nn.mul", x, a["dim"])


@aten("cummax.default", "cummin.default")
def cummax(at: Importer, a: Arguments) -> list[Value]:
    """The largest of the elements up to each, or the smallest. Where it is, nothing here can use."""
    at.expect_first_only()
    op = "nn.maximum" if "cummax" in at.op else "nn.minimum"
    return [_up_to_each(at, op, at.value(a["self"]), a["dim"])] * 2


@aten("logcumsumexp.default")
def log_cum_sum_exp(at: Importer, a: Arguments) -> Value:
    """The logarithms of the sums of exp(x) up to each, beside the largest of all."""
    x = at.value(a["self"], floats=True)
    axis, most = a["dim"] % x.type.rank, float(np.finfo(np.float32).max)
    top = at.build.nn.clamp(at.build.nn.max(x, axes=(axis,), keepdims=True), min=-most, max=most)
    sums = at.build.nn.cumsum(at.build.nn.exp(at.build.nn.sub(x, top)), axis=axis)
    return at.build.nn.add(at.build.nn.log(sums), top)


def _up_to_each(at: Importer, op: str, x: Value, dim: int) -> Value:
    """What an op makes of all elements up to each: of twice as many in every step, each with the one so far before."""
    axis = dim % x.type.rank
    size = x.type.shape[axis]
    if isinstance(size, str):
        raise TypeMismatch(f"along the symbolic size {size} it is not supported: it is written out step by step")
    reach = 1
    while reach < size:
        first, last, before = (
            at.build.nn.slice(x, axis=axis, start=start, end=end)
            for start, end in ((0, reach), (reach, size), (0, size - reach))
        )
        x = at.build.nn.concat(first, at.build.node(op, [last, before], {}).result, axis=axis)
        reach *= 2
    return x
