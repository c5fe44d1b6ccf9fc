"""Reductions over dimensions, and sums along one: sum, prod, max, min, argmax, argmin, cumsum, topk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Shape


def reduced(shape: Shape, axes: tuple[int, ...], keepdims: bool, name: str) -> Shape:
    """The shape without `axes`, or with size 1 there; raises TypeMismatch for axes that are none."""
    if not axes or any(not 0 <= axis < len(shape) for axis in axes) or len({*axes}) < len(axes):
        raise TypeMismatch(f"{name}: axes {list(axes)} are not dimensions of a value of shape {list(shape)}")
    return tuple(1 if i in axes else size for i, size in enumerate(shape) if keepdims or i not in axes)


class Reduction:
    """A reduction over `axes`; with `keepdims` they stay as size 1."""

    x: Operand = operand("f|i64|i32|bool[...]")
    result: Result = result("f|i64|i32|bool[...]")
    axes: tuple[int, ...] = attr()
    keepdims: bool = attr(False)

    def infer(self) -> TensorType:
        return self.x.type.with_shape(reduced(self.x.type.shape, self.axes, self.keepdims, "a reduction"))


@op("nn.sum", family="pool")
class Sum(Reduction):
    """The sum over `axes`; with `keepdims` they stay as size 1."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.sum(axis=self.axes, keepdims=self.keepdims, dtype=x.dtype))


@op("nn.prod", family="pool")
class Prod(Reduction):
    """The product over `axes`; with `keepdims` they stay as size 1."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.prod(axis=self.axes, keepdims=self.keepdims, dtype=x.dtype))


@op("nn.max", family="pool", moves_data=True)
class Max(Reduction):
    """The largest over `axes`; with `keepdims` they stay as size 1."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.max(axis=self.axes, keepdims=self.keepdims))


@op("nn.min", family="pool", moves_data=True)
class Min(Reduction):
    """The smallest over `axes`; with `keepdims` they stay as size 1."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.min(axis=self.axes, keepdims=self.keepdims))


class Place:
    """Where the extreme element along `axis` is, the first of several; with `keepdims` it stays as size 1."""

    x: Operand = operand("any[...]")
    result: Result = result("i64[...]")
    axis: int = attr()
    keepdims: bool = attr(False)

    def infer(self) -> TensorType:
        shape = reduced(self.x.type.shape, (self.axis,), self.keepdims, "the place of an extreme element")
        return TensorType(shape, "i64")


@op("nn.argmax")
class Argmax(Place):
    """Where the largest element along `axis` is, the first of several; with `keepdims` it stays as size 1."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.argmax(x, axis=self.axis, keepdims=self.keepdims), np.int64)


@op("nn.argmin")
class Argmin(Place):
    """Where the smallest element along `axis` is, the first of several; with `keepdims` it stays as size 1."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.argmin(x, axis=self.axis, keepdims=self.keepdims), np.int64)


class Along:
    """A function along the dimension `axis`."""

    x: Operand = operand("f|i64|i32[...]")
    result: Result = result("f|i64|i32[...]")
    axis: int = attr()

    def infer(self) -> TensorType:
        if not 0 <= self.axis < self.x.type.rank:
            raise TypeMismatch(f"axis {self.axis} is not a dimension of {self.x.type}")
        return self.x.type


@op("nn.cumsum")
class Cumsum(Along):
    """The sums of the elements up to each, along `axis`."""

    def evaluate(self, x: Array) -> Array:
        return np.cumsum(x, axis=self.axis, dtype=x.dtype)


@op("nn.topk")
class Topk:
    """The `k` largest elements along `axis`, the largest first (of equal ones the first), and where they are.

    Where `largest` is false: the smallest.
    """

    x: Operand = operand("f|i64|i32[...]")
    values: Result = result("f|i64|i32[...]")
    places: Result = result("i64[...]")
    k: int = attr()
    axis: int = attr()
    largest: bool = attr(True)

    def infer(self) -> tuple[TensorType, ...]:
        shape = list(self.x.type.shape)
        size = shape[self.axis] if 0 <= self.axis < len(shape) else 0
        if self.k < 0 or (isinstance(size, int) and self.k > size):
            raise TypeMismatch(f"nn.topk: there are no {self.k} elements along axis {self.axis} of {self.x.type}")
        shape[self.axis] = self.k
        values = self.x.type.with_shape(shape)
        return values, replace(values, dtype="i64")

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        order = np.argsort(-x if self.largest else x, axis=self.axis, kind="stable")
        places = np.take(order, np.arange(self.k), axis=self.axis)
        return np.take_along_axis(x, places, axis=self.axis), places.astype(np.int64)
