"""Reductions: MEAN, SUM, REDUCE_MAX, REDUCE_MIN, ARG_MAX, ARG_MIN."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.errors import TypeMismatch
from qgraph.exporters import tflite
from qgraph.ir import Array, Dim, Node, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.dialect.parameters import saturated, scale, scaled, zero_point
from qgraph.targets.litert.dialect.windows import same_parameters
from qgraph.targets.litert.rows import row


def centred_sum(x: Array, axes: tuple[int, ...], keep_dims: bool, type: TensorType) -> tuple[Array, int]:
    """The sum of x - zero_point over the axes, int64, and how many elements each sum has."""
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    total = x.sum(axis=axes, keepdims=keep_dims, dtype=np.int64)
    return np.asarray(total - count * zero_point(type)), count


def mean(x: Array, axes: tuple[int, ...], keep_dims: bool, type: TensorType, result: TensorType) -> Array:
    """MEAN: the division by the count is folded into the multiplier, at as many more bits as it has, and truncated.

    Source: reference/reduce.h (QuantizedMeanOrSum), reduce.cc (the shift of the multiplier).
    """
    total, count = centred_sum(x, axes, keep_dims, type)
    return saturated(multiply_double_rounding(total, *mean_multiplier(count, type, result)), result)


def mean_multiplier(count: int, type: TensorType, result: TensorType) -> tuple[int, int]:
    """Multiplier and shift from a sum of `count` integers to their mean in the result's scale."""
    multiplier, shift = (int(part) for part in quantize_multiplier(float(scale(type)) / float(scale(result))))
    more = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << more) // count, shift - more


def sum_of_bytes(x: Array, axes: tuple[int, ...], keep_dims: bool, type: TensorType, result: TensorType) -> Array:
    """SUM of int8 as the reference kernels have it: they take the bytes for uint8, in and out (a defect of theirs).

    The zero points are used as they stand in the file. Measured against ai-edge-litert 2.3.0.
    """
    if type.dtype != "i8":
        return sums(x, axes, keep_dims, type, result)
    total, _ = centred_sum(x.view(np.uint8), axes, keep_dims, type)
    value = scaled(total, float(scale(type)) / float(scale(result))).astype(np.int64) + zero_point(result)
    return np.clip(value, 0, 255).astype(np.uint8).view(np.int8)


def sums(x: Array, axes: tuple[int, ...], keep_dims: bool, type: TensorType, result: TensorType) -> Array:
    """SUM: double rounding of the centred sum with the float64 quotient of the scales."""
    total, _ = centred_sum(x, axes, keep_dims, type)
    return saturated(scaled(total, float(scale(type)) / float(scale(result))), result)


class Reduction:
    """What reductions over `axes` share."""

    x: Operand
    axes: tuple[int, ...]
    keep_dims: bool

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if any(not -len(shape) <= axis < len(shape) for axis in self.axes):
            raise TypeMismatch(f"axes {self.axes} are not dimensions of {self.x.type}")
        if any(isinstance(shape[axis], str) for axis in self.axes):
            raise TypeMismatch(f"the sizes along {self.axes} of {self.x.type} must be known")
        dropped = set(self.places())
        kept: list[Dim] = [1 if axis in dropped else size for axis, size in enumerate(shape)]
        return self.x.type.with_shape(
            kept if self.keep_dims else [size for axis, size in enumerate(kept) if axis not in dropped]
        )

    def places(self) -> tuple[int, ...]:
        """The axes, each once, counted from the front."""
        return tuple(sorted({axis % self.x.type.rank for axis in self.axes}))


@op("litert.mean", family="pool")
class Mean(Reduction):
    """MEAN over `axes`."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    axes: tuple[int, ...] = attr()
    keep_dims: bool = attr(False)

    def evaluate(self, x: Array) -> Array:
        return mean(x, self.places(), self.keep_dims, self.x.type, self.result.type)


@op("litert.sum", family="pool")
class Sum(Reduction):
    """SUM over `axes`. The reference kernels take int8 for uint8."""

    x: Operand = operand("i8q|u8q[...]")
    result: Result = result("i8q|u8q[...]", free=True)
    axes: tuple[int, ...] = attr()
    keep_dims: bool = attr(False)

    def evaluate(self, x: Array) -> Array:
        return sum_of_bytes(x, self.places(), self.keep_dims, self.x.type, self.result.type)


class Extremum(Reduction):
    """What REDUCE_MAX and REDUCE_MIN share: raw integers, whose parameters stay."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    axes: tuple[int, ...] = attr()
    keep_dims: bool = attr(False)

    def check(self) -> None:
        same_parameters(self.x.type, self.result.type, type(self).__name__)


@op("litert.reduce_max", family="pool", moves_data=True)
class ReduceMax(Extremum):
    """REDUCE_MAX over `axes`: the largest integer."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.max(axis=self.places(), keepdims=self.keep_dims))


@op("litert.reduce_min", family="pool", moves_data=True)
class ReduceMin(Extremum):
    """REDUCE_MIN over `axes`: the smallest integer."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.min(axis=self.places(), keepdims=self.keep_dims))


for _op, _operator in (("mean", "MEAN"), ("sum", "SUM"), ("reduce_max", "REDUCE_MAX"), ("reduce_min", "REDUCE_MIN")):
    row(f"litert.{_op}", _operator, constants={"axes": 1}, options={"keep_dims": "keep_dims"})


class Place:
    """What ARG_MAX and ARG_MIN share: the index along `axis`, which goes away."""

    x: Operand = operand("i8|u8|i32|f32[...]")
    result: Result = result("i32|i64[...]")
    axis: int = attr()
    index: str = attr("i32", choices=("i32", "i64"))

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if not -len(shape) <= self.axis < len(shape):
            raise TypeMismatch(f"axis {self.axis} is not a dimension of {self.x.type}")
        place = self.axis % len(shape)
        return TensorType((*shape[:place], *shape[place + 1 :]), self.index)


@op("litert.arg_max", family="pool")
class ArgMax(Place):
    """ARG_MAX: the first index of the largest integer along `axis`."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.argmax(self.axis), TensorType((), self.index).numpy)


@op("litert.arg_min", family="pool")
class ArgMin(Place):
    """ARG_MIN: the first index of the smallest integer along `axis`."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.argmin(self.axis), TensorType((), self.index).numpy)


def _write_index(node: Node) -> dict[str, Any]:
    return {"output_type": node.attrs["index"]}


def _read_index(operator: tflite.Operator) -> dict[str, Any]:
    return {"index": operator.options["output_type"]}


for _op, _operator in (("arg_max", "ARG_MAX"), ("arg_min", "ARG_MIN")):
    row(f"litert.{_op}", _operator, constants={"axis": 1}, write=_write_index, read=_read_index)


@on_floats("litert.float_mean", of="litert.mean")
class FloatMean(Mean):
    """MEAN on floats."""


@on_floats("litert.float_sum", of="litert.sum", elements="f32|i32")
class FloatSum(Sum):
    """SUM on floats, or on plain integers."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.sum(axis=self.places(), keepdims=self.keep_dims, dtype=x.dtype))


@on_floats("litert.float_reduce_max", of="litert.reduce_max", exact_on=REFERENCE, elements="f32|i32")
class FloatReduceMax(ReduceMax):
    """REDUCE_MAX on floats, or on plain integers."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.max(axis=self.places(), keepdims=self.keep_dims))


@on_floats("litert.float_reduce_min", of="litert.reduce_min", exact_on=REFERENCE, elements="f32|i32")
class FloatReduceMin(ReduceMin):
    """REDUCE_MIN on floats, or on plain integers."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.min(axis=self.places(), keepdims=self.keep_dims))
