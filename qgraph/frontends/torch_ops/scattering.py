"""Writes to elements by their indices."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import expanded, reshaped
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value
from qgraph.ir.types import Dim, Shape, dim_product
from qgraph.ops.nn.elementwise import broadcast_shape

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer

REDUCTIONS = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}
"""torch's words -> those of `nn.scatter_elements`."""


@aten("scatter.value")
def scatter(at: Importer, a: Arguments) -> Value:
    """x with a number at the indices along one dimension; in the others they have to have the sizes of x."""
    x, indices = at.value(a["self"]), at.value(a["index"])
    axis = a["dim"] % x.type.rank
    size, shape = x.type.shape[axis], indices.type.shape
    if isinstance(size, str) or [*shape[:axis], *shape[axis + 1 :]] != [
        *x.type.shape[:axis],
        *x.type.shape[axis + 1 :],
    ]:
        raise TypeMismatch(f"a scatter of {indices.type} into {x.type} is not supported")
    apart = reshaped(at.build, indices, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    numbers = np.arange(size, dtype=indices.type.numpy).reshape(-1, *(1,) * (x.type.rank - 1 - axis))
    hit = at.build.nn.max(at.build.nn.equal(apart, at.build.constant(numbers, "places")), axes=(axis,))
    return at.build.nn.where(hit, at.value(a["value"], x.type.dtype), x)


@aten("scatter.src", "scatter_add.default", "scatter_reduce.two")
def scatter_elements(at: Importer, a: Arguments) -> Value:
    """x with updates at indices along one dimension; updates beyond the indices are none."""
    x, indices, updates = (at.value(a[name]) for name in ("self", "index", "src"))
    word = "sum" if "scatter_add" in at.op else a.get("reduce")
    if word is not None and (word not in REDUCTIONS or not a.get("include_self", True)):
        raise TypeMismatch(f"a scatter by {word}, or without what is there, is not supported: divide sums by counts")
    for axis, (size, most) in enumerate(zip(indices.type.shape, updates.type.shape, strict=True)):
        if size != most:
            updates = at.build.nn.slice(updates, axis=axis, start=0, end=size)
    words = {"axis": a["dim"] % x.type.rank, "reduce": REDUCTIONS[word] if word else "none"}
    return at.build.nn.scatter_elements(x, indices, updates, **words)


@aten("index_put.default")
def index_put(at: Importer, a: Arguments) -> Value:
    """x with values at advanced indices: of dimensions next to each other, or by a mask, where one value fills it."""
    x, values = at.value(a["self"]), at.value(a["values"])
    axes = [axis for axis, given in enumerate(a["indices"]) if given is not None]
    indices = [at.value(a["indices"][axis]) for axis in axes]
    if any(each.type.dtype == "bool" for each in indices):
        return _masked(at, x, indices, values, a["accumulate"])
    if axes != [*range(axes[0], axes[0] + len(axes))]:
        raise TypeMismatch(f"writes to indices of the dimensions {axes}, apart from each other, are not supported")
    before, after = x.type.shape[: axes[0]], x.type.shape[axes[-1] + 1 :]
    sizes = x.type.shape[axes[0] : axes[-1] + 1]
    shape = functools.reduce(broadcast_shape, (index.type.shape for index in indices))
    values = at.cast(expanded(at.build, values, (*before, *shape, *after)), x.type.dtype)
    if axes == [0, 1] and _numbers_rows(indices[0], shape, sizes[0]):
        return _put_in_rows(at, x, expanded(at.build, indices[1], shape), values, a["accumulate"])
    values = reshaped(at.build, values, (*before, dim_product(shape), *after))
    flat = reshaped(at.build, expanded(at.build, _joined(at, indices, sizes), shape), (dim_product(shape),))
    whole = reshaped(at.build, x, (*before, dim_product(sizes), *after))
    return reshaped(at.build, _put(at, whole, len(before), flat, values, a["accumulate"]), x.type.shape)


def _masked(at: Importer, x: Value, indices: list[Value], values: Value, accumulate: bool) -> Value:
    """One value wherever a mask holds."""
    mask = indices[0]
    rest = x.type.rank - mask.type.rank - (0 if len(indices) == 1 else x.type.rank)
    if values.type.rank > max(rest, 0) and any(size != 1 for size in values.type.shape):
        raise TypeMismatch("as many values as a mask happens to hold are not supported: give one, or use torch.where")
    mask = reshaped(at.build, mask, (*mask.type.shape, *(1,) * rest))
    kept = at.build.nn.add(x, values) if accumulate else at.cast(values, x.type.dtype)
    return at.build.nn.where(mask, kept, x)


def _numbers_rows(index: Value, shape: Shape, rows: Dim) -> bool:
    """Whether an index is 0, 1, ... for each row, and the same for all that is written to it."""
    maker = index.producer
    while maker is not None and maker.op == "nn.reshape":
        maker = maker.operand(0).producer
    counted = maker is not None and maker.op == "nn.arange" and (maker.attrs["start"], maker.attrs["step"]) == (0, 1)
    return counted and shape[:1] == (rows,) and index.type.shape == (rows, *(1,) * (len(shape) - 1))


def _put_in_rows(at: Importer, x: Value, index: Value, values: Value, accumulate: bool) -> Value:
    """x with values [N, ..., *] at indices [N, ...] of its second dimension, in each row."""
    count, after = dim_product(index.type.shape[1:]), x.type.shape[2:]
    values = reshaped(at.build, values, (*x.type.shape[:1], count, *after))
    places = reshaped(at.build, index, (*x.type.shape[:1], count, *(1,) * len(after)))
    places = expanded(at.build, places, values.type.shape)
    return at.build.nn.scatter_elements(x, places, values, axis=1, reduce="add" if accumulate else "none")


def _joined(at: Importer, indices: list[Value], sizes: tuple[Any, ...]) -> Value:
    """Indices of several dimensions as those of all of them as one."""
    made = None
    for index, size in zip(indices, sizes, strict=True):
        if index.is_constant and isinstance(size, int):
            index = at.build.constant(index.data % size, index.name)
        if made is not None:
            if not isinstance(size, int):
                raise TypeMismatch(f"writes to indices of the symbolic size {size} are not supported")
            made = at.build.nn.mul(made, at.value(size, made.type.dtype))
        made = index if made is None else at.build.nn.add(made, at.cast(index, made.type.dtype))
    assert made is not None  # an op without indices writes nothing
    return made


def _put(at: Importer, x: Value, axis: int, index: Value, values: Value, accumulate: bool) -> Value:
    """x with values [..., M, ...] at M indices along an axis: known ones are a choice, or a sum."""
    size, count = x.type.shape[axis], index.type.shape[0]
    behind = x.type.rank - axis - 1
    if index.is_constant and isinstance(size, int) and not accumulate:
        order = np.arange(size)
        order[index.data] = size + np.arange(index.data.size)  # of several at one place the last stays
        both = at.build.nn.concat(x, values, axis=axis)
        return at.build.nn.gather(both, at.build.constant(order, "places"), axis=axis)
    if index.is_constant and isinstance(size, int) and behind < 2:
        chosen = np.zeros((size, index.data.size), x.type.numpy)
        chosen[index.data, np.arange(index.data.size)] = 1
        pair = [at.build.constant(chosen, "sums"), values]
        if not behind:
            pair = [values, at.build.constant(np.ascontiguousarray(chosen.T), "sums")]
        return at.build.nn.add(x, at.build.nn.matmul(*pair))
    flat = reshaped(at.build, index, (*(1,) * axis, count, *(1,) * behind))
    places = expanded(at.build, flat, values.type.shape)
    return at.build.nn.scatter_elements(x, places, values, axis=axis, reduce="add" if accumulate else "none")


@aten("masked_scatter.default")
def masked_scatter(at: Importer, a: Arguments) -> Value:
    """x with the next element of the source wherever the mask holds."""
    x, source = at.value(a["self"]), at.value(a["source"])
    mask = expanded(at.build, at.value(a["mask"]), x.type.shape)
    flat = reshaped(at.build, at.cast(mask, "i64"), (dim_product(x.type.shape),))
    order = at.build.nn.sub(at.build.nn.cumsum(flat, axis=0), at.value(1, "i64"))
    elements = reshaped(at.build, source, (dim_product(source.type.shape),))
    chosen = at.build.nn.gather(elements, at.build.nn.maximum(order, at.value(0, "i64")), axis=0)
    return at.build.nn.where(mask, reshaped(at.build, chosen, x.type.shape), x)
