"""Elements by their indices, and indices themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.composed import one_hot_conditions
from qgraph.frontends.target_shapes import reshaped, with_sizes
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("embedding.default")
def embedding(at: Importer, a: Arguments) -> Value:
    """Rows of a table."""
    return at.build.nn.embedding(at.value(a["indices"]), at.value(a["weight"]))


@aten("embedding_bag.padding_idx", "embedding_bag.default")
def embedding_bag(at: Importer, a: Arguments) -> list[Value]:
    """Sums, means or maxima of rows, for bags of one size; torch gives them flat, and where each begins."""
    if a["include_last_offset"]:
        raise TypeMismatch("bags with include_last_offset are not supported")
    at.expect_first_only()
    size = _bag_size(at, a["offsets"])
    flat = at.value(a["indices"])
    batch = at.first_result_type().shape[0]
    weights = at.optional(a["per_sample_weights"])
    made = at.build.nn.embedding_bag(
        reshaped(at.build, flat, (batch, size)),
        at.value(a["weight"]),
        None if weights is None else reshaped(at.build, weights, (batch, size)),
        mode=("sum", "mean", "max")[a["mode"]],
        padding=None if a.get("padding_idx", -1) in (None, -1) else a["padding_idx"],
    )
    return [made] * 4  # the others are of the backward pass


def _bag_size(at: Importer, offsets: Any) -> int:
    """How many indices each bag has; raises TypeMismatch where that differs or is not known."""
    step = offsets.args[2] if str(offsets.target) == "aten.arange.start_step" else None
    if isinstance(step, int):
        return step
    raise TypeMismatch("bags of different sizes are not supported: give indices of two dimensions, a bag each")


@aten("index_select.default")
def index_select(at: Importer, a: Arguments) -> Value:
    """Parts of x by their indices."""
    x = at.value(a["self"])
    return at.build.nn.gather(x, at.value(a["index"]), axis=a["dim"] % x.type.rank)


@aten("gather.default")
def gather(at: Importer, a: Arguments) -> Value:
    """Elements by their indices along one dimension."""
    x = at.value(a["self"])
    return at.build.nn.gather_elements(x, at.value(a["index"]), axis=a["dim"] % x.type.rank)


@aten("index.Tensor")
def index(at: Importer, a: Arguments) -> Value:
    """Advanced indexing, but by masks, whose result has as many elements as they happen to hold."""
    x = at.value(a["self"])
    axes = tuple(axis for axis, given in enumerate(a["indices"]) if given is not None)
    indices = [at.value(a["indices"][axis]) for axis in axes]
    if any(each.type.dtype == "bool" for each in indices):
        raise TypeMismatch("indexing by a mask is not supported: its result has no known shape")
    if len(axes) == 1:
        return at.build.nn.gather(x, indices[0], axis=axes[0])
    return at.build.nn.index(x, *indices, axes=axes)


@aten("arange.default", "arange.start", "arange.start_step")
def arange(at: Importer, a: Arguments) -> Value:
    """0, 1, ... up to a symbolic size."""
    type = at.result_type()
    start, step = a.get("start", 0), a.get("step", 1)
    if not all(isinstance(number, int) for number in (start, step)):
        raise TypeMismatch(f"numbers from {start} by {step} to a symbolic size are not supported")
    like = with_sizes(at.graph, {*type.shape})
    made = at.build.nn.arange(like, axis=like.type.shape.index(type.shape[0]), start=start, step=step)
    return at.cast(made, type.dtype)


@aten("one_hot.default")
def one_hot(at: Importer, a: Arguments) -> Value:
    """1 at the index, 0 elsewhere."""
    return at.cast(one_hot_conditions(at.build, at.value(a["self"]), a["num_classes"]), "i64")


@aten("diagonal.default")
def diagonal(at: Importer, a: Arguments) -> Value:
    """The diagonal of two dimensions as a last one."""
    x = at.value(a["self"])
    first, second = a["dim1"] % x.type.rank, a["dim2"] % x.type.rank
    rest = [i for i in range(x.type.rank) if i not in (first, second)]
    rows, columns = x.type.shape[first], x.type.shape[second]
    if isinstance(rows, str) or isinstance(columns, str):
        raise TypeMismatch(f"a diagonal of {x.type}, of symbolic size, is not supported")
    flat = at.build.nn.transpose(x, perm=(*rest, first, second))
    flat = reshaped(at.build, flat, (*(x.type.shape[i] for i in rest), rows * columns))
    places = np.diagonal(np.arange(rows * columns).reshape(rows, columns), a["offset"])
    return at.build.nn.gather(flat, at.build.constant(places.copy(), "diagonal"), axis=len(rest))


@aten("bucketize.Tensor", "searchsorted.Tensor")
def bucketize(at: Importer, a: Arguments) -> Value:
    """How many boundaries lie below each element."""
    searched = "searchsorted" in at.op
    x, bounds = at.value(a["self"]), at.value(a["sorted_sequence" if searched else "boundaries"])
    if bounds.type.rank != 1:
        raise TypeMismatch("boundaries of several dimensions are not supported")
    apart = reshaped(at.build, x, (*x.type.shape, 1))
    bounds = at.cast(bounds, x.type.dtype)
    below = at.build.nn.less_equal(bounds, apart) if a["right"] else at.build.nn.less(bounds, apart)
    return at.build.nn.sum(at.cast(below, at.result_type().dtype), axes=(x.type.rank,))
