"""Sums, products, extremes, deviations and norms over dimensions, and sums along one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.composed import scaled
from qgraph.frontends.target_shapes import reshaped
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value
from qgraph.ir.types import dim_product

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("sum.default", "sum.dim_IntList")
def total(at: Importer, a: Arguments) -> Value:
    """The sum over dimensions."""
    x = at.cast(at.value(a["self"]), at.result_type().dtype)
    return at.build.nn.sum(x, axes=at.axes(a.get("dim"), x), keepdims=a.get("keepdim", False))


@aten("prod.default", "prod.dim_int")
def prod(at: Importer, a: Arguments) -> Value:
    """The product over dimensions."""
    x = at.cast(at.value(a["self"]), at.result_type().dtype)
    return at.build.nn.prod(x, axes=at.axes(a.get("dim"), x), keepdims=a.get("keepdim", False))


@aten("amax.default", "max.default")
def largest(at: Importer, a: Arguments) -> Value:
    """The largest element over dimensions."""
    x = at.value(a["self"])
    return at.build.nn.max(x, axes=at.axes(a.get("dim"), x), keepdims=a.get("keepdim", False))


@aten("amin.default", "min.default")
def smallest(at: Importer, a: Arguments) -> Value:
    """The smallest element over dimensions."""
    x = at.value(a["self"])
    return at.build.nn.min(x, axes=at.axes(a.get("dim"), x), keepdims=a.get("keepdim", False))


@aten("max.dim", "min.dim")
def extreme_and_place(at: Importer, a: Arguments) -> list[Value]:
    """The extreme element along a dimension, and where it is."""
    x = at.value(a["self"])
    axis, keep = a["dim"] % x.type.rank, a["keepdim"]
    if ".max." in at.op:
        return [at.build.nn.max(x, axes=(axis,), keepdims=keep), at.build.nn.argmax(x, axis=axis, keepdims=keep)]
    return [at.build.nn.min(x, axes=(axis,), keepdims=keep), at.build.nn.argmin(x, axis=axis, keepdims=keep)]


@aten("argmax.default", "argmin.default")
def place(at: Importer, a: Arguments) -> Value:
    """Where the extreme element is, along a dimension or in all of them."""
    x = at.value(a["self"])
    find = at.build.nn.argmax if "argmax" in at.op else at.build.nn.argmin
    if a["dim"] is None:
        made: Value = find(reshaped(at.build, x, (dim_product(x.type.shape),)), axis=0)
        return reshaped(at.build, made, at.result_type().shape)
    made = find(x, axis=a["dim"] % x.type.rank, keepdims=a["keepdim"])
    return made


@aten("var.default", "var.dim", "var.correction")
def variance(at: Importer, a: Arguments) -> Value:
    """The variance over dimensions."""
    return _variance(at, a)[0]


@aten("std.default", "std.dim", "std.correction")
def deviation(at: Importer, a: Arguments) -> Value:
    """The standard deviation over dimensions."""
    return at.build.nn.sqrt(_variance(at, a)[0])


@aten("var_mean.correction", "var_mean.dim", "var_mean.default")
def variance_and_mean(at: Importer, a: Arguments) -> list[Value]:
    """The variance and the mean over dimensions."""
    return list(_variance(at, a))


def _variance(at: Importer, a: Arguments) -> tuple[Value, Value]:
    """The mean of the squared distances from the mean, as of n - `correction` elements; and the mean."""
    x, keep = at.value(a["self"]), a.get("keepdim", False)
    axes = at.axes(a.get("dim"), x)
    correction = a["correction"] if "correction" in a else int(a["unbiased"])
    correction = 1 if correction is None else correction
    count = dim_product([x.type.shape[axis] for axis in axes])
    if correction and isinstance(count, str):
        raise TypeMismatch(f"a variance over the symbolic size {count} with correction={correction} is not supported")
    mean = at.build.nn.mean(x, axes=axes, keepdims=True)
    less = at.build.nn.sub(x, mean)
    made = at.build.nn.mean(at.build.nn.mul(less, less), axes=axes, keepdims=keep)
    if correction and isinstance(count, int):
        with np.errstate(divide="ignore", invalid="ignore"):
            made = scaled(at.build, made, float(np.float64(count) / (count - correction)))
    return made, reshaped(at.build, mean, made.type.shape)


@aten("linalg_vector_norm.default", "norm.ScalarOpt_dim", "norm.Scalar")
def norm(at: Importer, a: Arguments) -> Value:
    """The 2-norm, the 1-norm or the largest magnitude over dimensions."""
    x, keep = at.value(a["self"]), a.get("keepdim", False)
    order = a.get("ord", a.get("p"))
    axes = at.axes(a.get("dim"), x)
    if order in (2, None):
        return at.build.nn.sqrt(at.build.nn.sum(at.build.nn.mul(x, x), axes=axes, keepdims=keep))
    if order == 1:
        return at.build.nn.sum(at.build.nn.abs(x), axes=axes, keepdims=keep)
    if order == math.inf:
        return at.build.nn.max(at.build.nn.abs(x), axes=axes, keepdims=keep)
    raise TypeMismatch(f"the norm of order {order} is not supported")


@aten("cosine_similarity.default")
def cosine_similarity(at: Importer, a: Arguments) -> Value:
    """The product of two vectors of norm 1; norms below eps count as eps."""
    x, y = at.pair(a["x1"], a["x2"])
    axes = at.axes(a["dim"], x)
    units = []
    for each in (x, y):
        length = at.build.nn.sqrt(at.build.nn.sum(at.build.nn.mul(each, each), axes=axes, keepdims=True))
        units.append(at.build.nn.div(each, at.build.nn.clamp(length, min=a["eps"])))
    return at.build.nn.sum(at.build.nn.mul(*units), axes=axes)


@aten("logsumexp.default")
def log_sum_exp(at: Importer, a: Arguments) -> Value:
    """The logarithm of the sum of exp(x): the largest finite element and what the others add to it."""
    x = at.value(a["self"], floats=True)
    axes = at.axes(a["dim"], x)
    most = float(np.finfo(np.float32).max)
    top = at.build.nn.clamp(at.build.nn.max(x, axes=axes, keepdims=True), min=-most, max=most)
    rest = at.build.nn.sum(at.build.nn.exp(at.build.nn.sub(x, top)), axes=axes, keepdims=True)
    made = at.build.nn.add(at.build.nn.log(rest), top)
    return reshaped(at.build, made, at.result_type().shape)


@aten("topk.default")
def topk(at: Importer, a: Arguments) -> list[Value]:
    """The largest elements, and where they are."""
    x = at.value(a["self"])
    axis = a["dim"] % x.type.rank
    return list(at.build.node("nn.topk", [x], {"k": a["k"], "axis": axis, "largest": a["largest"]}).results)


@aten("sort.default", "sort.stable")
def sort(at: Importer, a: Arguments) -> list[Value]:
    """All elements in order, and where they were."""
    x = at.value(a["self"])
    axis = a["dim"] % x.type.rank
    size = x.type.shape[axis]
    if isinstance(size, str):
        raise TypeMismatch(f"sorting along the symbolic size {size} is not supported")
    return list(at.build.node("nn.topk", [x], {"k": size, "axis": axis, "largest": a["descending"]}).results)


@aten("median.dim", "kthvalue.default")
def ranked(at: Importer, a: Arguments) -> list[Value]:
    """The k-th smallest element along a dimension, or the lower median, and where it is."""
    x = at.value(a["self"])
    axis = a["dim"] % x.type.rank
    size = x.type.shape[axis]
    if isinstance(size, str):
        raise TypeMismatch(f"a median along the symbolic size {size} is not supported")
    k = a["k"] if "k" in a else (size - 1) // 2 + 1
    found = at.build.node("nn.topk", [x], {"k": k, "axis": axis, "largest": False}).results
    parts = [at.build.nn.slice(each, axis=axis, start=k - 1, end=k) for each in found]
    shape = parts[0].type.shape if a["keepdim"] else (*x.type.shape[:axis], *x.type.shape[axis + 1 :])
    return [reshaped(at.build, part, shape) for part in parts]
