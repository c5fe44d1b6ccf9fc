"""Ops that move elements: CONCAT, PAD, RESHAPE, REVERSE, SLICE, TILE, TRANSPOSE, GATHER, SCATTER.

A file has shapes as constants; here they are attributes, in which -1 stands for an open batch.
Source: TOSA specification 1.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Dim, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import dim_product, integer_range
from qgraph.ops.nn.shape import reshaped
from qgraph.targets.tosa.dialect.elements import check_axis, check_rank, unpredictable
from qgraph.targets.tosa.rows import row

ANY = "bool|i8|i16|i32[...]"
MOST_OPERANDS = 64
"""MAX_TENSOR_LIST_SIZE of level 8K."""


def _same_storage(self: Any, name: str, *types: TensorType) -> None:
    for type in types:
        if type.dtype != self.result.type.dtype:
            raise TypeMismatch(f"{name} of {type} makes no {self.result.type}")


@op("tosa.concat", kind="concat", moves_data=True)
class Concat:
    """CONCAT."""

    xs: list[Operand] = operand(ANY, variadic=True)
    result: Result = result(ANY, free=True)
    axis: int = attr()

    def infer(self) -> TensorType:
        first = self.xs[0].type
        check_axis("tosa.concat", self.axis, first)
        if len(self.xs) > MOST_OPERANDS:
            raise TypeMismatch(f"tosa.concat of {len(self.xs)} values: level 8K has {MOST_OPERANDS}")
        others = {(x.type.rank, *(size for i, size in enumerate(x.type.shape) if i != self.axis)) for x in self.xs}
        sizes = [x.type.shape[self.axis] if self.axis < x.type.rank else 0 for x in self.xs]
        if len(others) > 1 or not all(isinstance(size, int) for size in sizes):
            raise TypeMismatch(f"tosa.concat: {', '.join(str(x.type) for x in self.xs)} differ beside axis {self.axis}")
        total = sum(int(size) for size in sizes)
        return first.with_shape([total if i == self.axis else size for i, size in enumerate(first.shape)])

    def check(self) -> None:
        _same_storage(self, "tosa.concat", *(x.type for x in self.xs))

    def evaluate(self, xs: list[Array]) -> Array:
        return np.concatenate(xs, axis=self.axis)


class _Move:
    """The result has the storage of x."""

    name = ""
    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)

    def check(self) -> None:
        _same_storage(self, self.name, self.x.type)


@op("tosa.pad", kind="pad", moves_data=True)
class Pad(_Move):
    """PAD with the integer `pad_const`; `padding`: begin and end of each axis."""

    name = "tosa.pad"
    padding: tuple[int, ...] = attr()
    pad_const: int = attr(0)

    def infer(self) -> TensorType:
        check_rank(self.name, self.x.type, least=1)
        if len(self.padding) != 2 * self.x.type.rank or min(self.padding) < 0:
            raise TypeMismatch(f"{self.name}: {self.padding} are not two sizes for each axis of {self.x.type}")
        sizes = zip(self.x.type.shape, self.padding[0::2], self.padding[1::2], strict=True)
        return self.x.type.with_shape([self._grown(*axis) for axis in sizes])

    def _grown(self, size: Dim, begin: int, end: int) -> Dim:
        if isinstance(size, str):
            if begin or end:
                raise TypeMismatch(f"{self.name}: the open size {size} cannot be padded")
            return size
        return size + begin + end

    def check(self) -> None:
        super().check()
        low, high = (0, 1) if self.x.type.dtype == "bool" else integer_range(self.x.type.dtype)
        if not low <= self.pad_const <= high:
            raise TypeMismatch(f"{self.name}: {self.pad_const} is no {self.x.type.dtype}")

    def evaluate(self, x: Array) -> Array:
        widths = list(zip(self.padding[0::2], self.padding[1::2], strict=True))
        return np.pad(x, widths, constant_values=self.pad_const)


@op("tosa.reshape", moves_data=True)
class Reshape(_Move):
    """RESHAPE."""

    name = "tosa.reshape"
    shape: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        made = self.x.type.with_shape(reshaped(self.x.type.shape, self.shape))
        check_rank(self.name, self.x.type, made)
        return made

    def evaluate(self, x: Array) -> Array:
        return x.reshape(self.shape)


@op("tosa.reverse", moves_data=True)
class Reverse(_Move):
    """REVERSE along one axis."""

    name = "tosa.reverse"
    axis: int = attr()

    def infer(self) -> TensorType:
        check_axis(self.name, self.axis, self.x.type)
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.ascontiguousarray(np.flip(x, self.axis))


@op("tosa.slice", kind="slice", moves_data=True)
class Slice(_Move):
    """SLICE: `size` elements from `start` on, along each axis; -1 from 0 on: all of it, as along an open batch."""

    name = "tosa.slice"
    start: tuple[int, ...] = attr()
    size: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        check_rank(self.name, self.x.type, least=1)
        if not len(self.start) == len(self.size) == len(shape):
            raise TypeMismatch(f"{self.name}: {self.start} and {self.size} are not one for each axis of {self.x.type}")
        for begin, size, whole in zip(self.start, self.size, shape, strict=True):
            if (begin, size) != (0, -1) and (isinstance(whole, str) or begin < 0 or size < 1 or begin + size > whole):
                raise TypeMismatch(f"{self.name}: {size} elements from {begin} on are not within {self.x.type}")
        return self.x.type.with_shape([w if s == -1 else s for s, w in zip(self.size, shape, strict=True)])

    def evaluate(self, x: Array) -> Array:
        places = (slice(b, None if s == -1 else b + s) for b, s in zip(self.start, self.size, strict=True))
        return np.ascontiguousarray(x[tuple(places)])


@op("tosa.tile", moves_data=True)
class Tile(_Move):
    """TILE: x repeated along each axis."""

    name = "tosa.tile"
    multiples: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        check_rank(self.name, self.x.type, least=1)
        if len(self.multiples) != self.x.type.rank or min(self.multiples) < 1:
            raise TypeMismatch(f"{self.name}: {self.multiples} are not one for each axis of {self.x.type}")
        sizes = zip(self.x.type.shape, self.multiples, strict=True)
        return self.x.type.with_shape([size if times == 1 else dim_product([size, times]) for size, times in sizes])

    def evaluate(self, x: Array) -> Array:
        return np.tile(x, self.multiples)


@op("tosa.transpose", moves_data=True)
class Transpose(_Move):
    """TRANSPOSE: axis i of the result is axis perms[i] of x."""

    name = "tosa.transpose"
    perms: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        check_rank(self.name, self.x.type, least=1)
        if sorted(self.perms) != list(range(self.x.type.rank)):
            raise TypeMismatch(f"{self.name}: {self.perms} is not an order of the axes of {self.x.type}")
        return self.x.type.with_shape([self.x.type.shape[i] for i in self.perms])

    def evaluate(self, x: Array) -> Array:
        return np.ascontiguousarray(x.transpose(self.perms))


@op("tosa.gather", kind="gather", moves_data=True)
class Gather:
    """GATHER: result[n, w, c] = x[n, indices[n, w], c]."""

    x: Operand = operand("bool|i8|i16|i32[N, K, C]")
    indices: Operand = operand("i32[N, W]", role="indices")
    result: Result = result("bool|i8|i16|i32[N, W, C]", free=True)

    def infer(self) -> TensorType:
        return self.x.type.with_shape((*self.indices.type.shape, self.x.type.shape[2]))

    def check(self) -> None:
        _same_storage(self, "tosa.gather", self.x.type)

    def evaluate(self, x: Array, indices: Array) -> Array:
        _check_places("tosa.gather", indices, x.shape[1])
        return np.take_along_axis(x, indices[:, :, None], axis=1)


@op("tosa.scatter", moves_data=True)
class Scatter:
    """SCATTER: x with x[n, indices[n, w], c] = updates[n, w, c]; no place is written twice."""

    x: Operand = operand("bool|i8|i16|i32[N, K, C]")
    indices: Operand = operand("i32[N, W]", role="indices")
    updates: Operand = operand("bool|i8|i16|i32[N, W, C]")
    result: Result = result("bool|i8|i16|i32[N, K, C]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def check(self) -> None:
        _same_storage(self, "tosa.scatter", self.x.type, self.updates.type)

    def evaluate(self, x: Array, indices: Array, updates: Array) -> Array:
        _check_places("tosa.scatter", indices, x.shape[1])
        if any(np.unique(places).size < places.size for places in indices):
            raise unpredictable("tosa.scatter", "a place is written twice")
        made = x.copy()
        np.put_along_axis(made, indices[:, :, None], updates, axis=1)
        return made


def _check_places(name: str, indices: Array, count: int) -> None:
    if indices.size and not 0 <= indices.min() <= indices.max() < count:
        raise unpredictable(name, f"an index is not within 0 and {count - 1}")


for _name in ("concat", "reverse", "transpose", "gather", "scatter"):
    row(f"tosa.{_name}", _name.upper())
row("tosa.pad", "PAD", {"pad_const": "x"}, shapes=("padding",))
row("tosa.reshape", "RESHAPE", shapes=("shape",))
row("tosa.slice", "SLICE", shapes=("start", "size"))
row("tosa.tile", "TILE", shapes=("multiples",))
