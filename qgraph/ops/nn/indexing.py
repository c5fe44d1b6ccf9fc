"""Elements by their indices: embedding, embedding_bag, gather, gather_elements, scatter_elements, index; and indices
themselves."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.elementwise import broadcast_shape

INDICES = "i64|i32[...]"


@contextmanager
def _bounds(what: str) -> Iterator[None]:
    """Turn NumPy's IndexError into an InputError."""
    try:
        yield
    except IndexError as error:
        raise InputError(f"{what}: {error}", help="an index is too large for the value that it reads") from None


@op("nn.embedding", moves_data=True)
class Embedding:
    """The rows of the weight that the indices name, torch's `embedding`."""

    indices: Operand = operand(INDICES, role="indices")
    w: Operand = operand("f[V, D]", role="weight")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.w.type.with_shape((*self.indices.type.shape, self.w.type.shape[1]))

    def evaluate(self, indices: Array, w: Array) -> Array:
        with _bounds("nn.embedding"):
            return np.take(w, indices, axis=0)


@op("nn.embedding_bag")
class EmbeddingBag:
    """The sum, mean or maximum of the rows of the weight that each bag of indices [N, L] names, torch's `EmbeddingBag`.

    `weights`: a factor for each index, where the rows are summed. Rows of `padding` do not count; a bag of nothing else
    is 0.
    """

    indices: Operand = operand("i64|i32[N, L]", role="indices")
    w: Operand = operand("f[V, D]", role="weight")
    weights: Operand | None = operand("f[N, L]", optional=True)
    result: Result = result("f[N, D]")
    mode: str = attr("mean", choices=("sum", "mean", "max"))
    padding: int | None = attr(None)

    def infer(self) -> TensorType:
        if self.weights is not None and self.mode != "sum":
            raise TypeMismatch(f"nn.embedding_bag: weights serve the sum, not the {self.mode}")
        return self.w.type.with_shape((self.indices.type.shape[0], self.w.type.shape[1]))

    def evaluate(self, indices: Array, w: Array, weights: Array | None) -> Array:
        with _bounds("nn.embedding_bag"):
            rows = np.take(w, indices, axis=0)
        rows = rows if weights is None else rows * weights[:, :, None]
        counts: Array = np.ones(indices.shape, bool)
        if self.padding is not None:
            counts = np.not_equal(indices, self.padding)
        if self.mode == "max":
            largest = np.where(counts[:, :, None], rows, -np.inf).max(axis=1, initial=-np.inf)
            return np.where(np.asarray(counts.any(axis=1))[:, None], largest, 0).astype(w.dtype)
        total = np.where(counts[:, :, None], rows, 0).sum(axis=1, dtype=w.dtype)
        if self.mode == "sum":
            return np.asarray(total)
        return np.asarray(total / np.maximum(counts.sum(axis=1), 1).astype(w.dtype)[:, None])


@op("nn.gather", moves_data=True)
class Gather:
    """The parts of x that the indices name along `axis`, in whose place the dimensions of the indices stand.

    An index below 0 counts from the end.
    """

    x: Operand = operand("any[...]")
    indices: Operand = operand(INDICES, role="indices")
    result: Result = result("any[...]")
    axis: int = attr()

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if not 0 <= self.axis < len(shape):
            raise TypeMismatch(f"nn.gather: axis {self.axis} is not a dimension of {self.x.type}")
        return self.x.type.with_shape((*shape[: self.axis], *self.indices.type.shape, *shape[self.axis + 1 :]))

    def evaluate(self, x: Array, indices: Array) -> Array:
        with _bounds("nn.gather"):
            return np.take(x, indices, axis=self.axis)


@op("nn.gather_elements", moves_data=True)
class GatherElements:
    """The element of x at each index along `axis` and, in the other dimensions, at the index's own place; torch's
    `gather`."""

    x: Operand = operand("any[...]")
    indices: Operand = operand(INDICES, role="indices")
    result: Result = result("any[...]")
    axis: int = attr()

    def infer(self) -> TensorType:
        if self.x.type.rank != self.indices.type.rank or not 0 <= self.axis < self.x.type.rank:
            raise TypeMismatch(f"nn.gather_elements: {self.indices.type} are no indices along axis {self.axis} of x")
        return self.x.type.with_shape(self.indices.type.shape)

    def evaluate(self, x: Array, indices: Array) -> Array:
        kept = tuple(slice(None) if i == self.axis else slice(size) for i, size in enumerate(indices.shape))
        with _bounds("nn.gather_elements"):
            return np.take_along_axis(x[kept], indices, axis=self.axis)


SCATTERED = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
"""How `nn.scatter_elements` joins an update and what is there."""


@op("nn.scatter_elements")
class ScatterElements:
    """x with each update at its index along `axis` and, in the other dimensions, at its own place; torch's `scatter`.

    Of several updates of one element the last stays, or `reduce` joins all of them and the element.
    """

    x: Operand = operand("any[...]")
    indices: Operand = operand(INDICES, role="indices")
    updates: Operand = operand("any[...]")
    result: Result = result("any[...]")
    axis: int = attr()
    reduce: str = attr("none", choices=("none", *SCATTERED))

    def infer(self) -> TensorType:
        x, indices, updates = (value.type for value in (self.x, self.indices, self.updates))
        if x.rank != indices.rank or not 0 <= self.axis < x.rank or updates != x.with_shape(indices.shape):
            raise TypeMismatch(
                f"nn.scatter_elements: {updates} at {indices} are no updates along axis {self.axis} of {x}"
            )
        return x

    def evaluate(self, x: Array, indices: Array, updates: Array) -> Array:
        places: list[Array] = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
        places[self.axis] = indices
        made = x.copy()
        with _bounds("nn.scatter_elements"):
            if self.reduce == "none":
                made[tuple(places)] = updates
            else:
                SCATTERED[self.reduce].at(made, tuple(places), updates)
        return made


@op("nn.index", moves_data=True)
class Index:
    """x at indices that broadcast together, one operand for each of `axes`: NumPy's and torch's advanced indexing.

    Their dimensions stand in the place of the axes, or in front where the axes are not next to each other.
    """

    x: Operand = operand("any[...]")
    indices: list[Operand] = operand(INDICES, variadic=True, role="indices")
    result: Result = result("any[...]")
    axes: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        shape, axes = self.x.type.shape, self.axes
        if len(axes) != len(self.indices) or sorted({*axes}) != [*axes] or not axes[-1] < len(shape):
            raise TypeMismatch(
                f"nn.index: {len(self.indices)} indices do not fit the axes {list(axes)} of {self.x.type}"
            )
        made = functools.reduce(broadcast_shape, (index.type.shape for index in self.indices))
        first = axes[0] if axes == tuple(range(axes[0], axes[0] + len(axes))) else 0
        rest = [size for i, size in enumerate(shape) if i not in axes]
        return self.x.type.with_shape((*rest[:first], *made, *rest[first:]))

    def evaluate(self, x: Array, indices: list[Array]) -> Array:
        given = dict(zip(self.axes, indices, strict=True))
        with _bounds("nn.index"):
            return np.asarray(x[tuple(given.get(axis, slice(None)) for axis in range(self.axes[-1] + 1))])


@op("nn.arange")
class Arange:
    """`start`, `start + step`, ...: as many numbers as dimension `axis` of `like` has indices."""

    like: Operand = operand("any[...]", role="indices")
    result: Result = result("i64[T']")
    axis: int = attr()
    start: int = attr(0)
    step: int = attr(1)

    def infer(self) -> TensorType:
        if not 0 <= self.axis < self.like.type.rank:
            raise TypeMismatch(f"nn.arange: axis {self.axis} is not a dimension of {self.like.type}")
        return TensorType((self.like.type.shape[self.axis],), "i64")

    def evaluate(self, like: Array) -> Array:
        return self.start + self.step * np.arange(like.shape[self.axis], dtype=np.int64)
