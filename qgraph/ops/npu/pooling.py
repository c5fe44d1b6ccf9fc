"""Pools and sums: the largest of a window, the sum of a window or along axes, which stages divide."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.arith.narrow_accumulator import AccumulatorRule, narrow_sum
from qgraph.arith.pooling import window_sum
from qgraph.arith.windows import padded, windows
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.linear import window_shape
from qgraph.ops.npu.accumulator import Sums
from qgraph.ops.npu.storage import ACCUMULATORS, CODES


def pooled(view: Any) -> TensorType:
    """The type of x with the sizes of a pool's result."""
    batch, *spatial, channels = view.x.type.shape
    sizes = window_shape(tuple(spatial), view.kernel, view.stride, view.pads, (1,) * len(view.kernel))
    made: TensorType = view.x.type.with_shape((batch, *sizes, channels))
    return made


@op("npu.max_pool", moves_data=True)
class MaxPool:
    """The largest of each window; pads (top, left, bottom, right) are `pad_value`, which may be the largest."""

    x: Operand = operand(f"{CODES}[N, H, W, C]")
    result: Result = result(f"{CODES}[N, H', W', C]")
    kernel: tuple[int, int] = attr()
    stride: tuple[int, int] = attr((1, 1))
    pads: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    pad_value: int = attr()

    def infer(self) -> TensorType:
        return pooled(self)

    def evaluate(self, x: Array) -> Array:
        view = windows(padded(x, self.pads, self.pad_value, first_axis=1), self.kernel, self.stride, first_axis=1)
        return np.asarray(view.max(axis=(-2, -1)))


@op("npu.window_sum", kind="window_sum")
class WindowSum(Sums):
    """The sum of x - input_zero_point over each window; pads add nothing."""

    x: Operand = operand(f"{CODES}[N, H, W, C]")
    result: Result = result(f"{ACCUMULATORS}[N, H', W', C]", free=True)
    kernel: tuple[int, int] = attr()
    stride: tuple[int, int] = attr((1, 1))
    pads: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    input_zero_point: int = attr(0)

    def infer(self) -> TensorType:
        return pooled(self)

    def accumulate(self, x: Array) -> Array:
        """Exact sums [N, H', W', C], in int64."""
        total, counts = window_sum(x, self.kernel, self.stride, self.pads)
        return np.asarray(total.astype(np.int64) - np.int64(self.input_zero_point) * counts)

    def narrow(self, rule: AccumulatorRule, x: Array) -> Array:
        """What narrow accumulators keep, window by window."""
        around = padded(x.astype(np.int64) - self.input_zero_point, self.pads, 0, first_axis=1)
        view = windows(around, self.kernel, self.stride, first_axis=1)
        return np.asarray(narrow_sum(view, (4, 5), rule)[..., 0, 0])


@op("npu.sum", kind="sum")
class Sum(Sums):
    """The sum of x - input_zero_point over `axes`, which stay as sizes of 1."""

    x: Operand = operand(f"{CODES}[...]")
    result: Result = result(f"{ACCUMULATORS}[...]", free=True)
    axes: tuple[int, ...] = attr()
    input_zero_point: int = attr(0)

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if not self.axes or any(not 0 <= axis < len(shape) for axis in self.axes):
            raise TypeMismatch(f"npu.sum: axes {self.axes} are not dimensions of {self.x.type}")
        return self.x.type.with_shape([1 if axis in self.axes else size for axis, size in enumerate(shape)])

    def accumulate(self, x: Array) -> Array:
        """Exact sums in int64: fewer than 2**47 elements of 16 bits."""
        return np.asarray((x.astype(np.int64) - self.input_zero_point).sum(axis=self.axes, keepdims=True))

    def narrow(self, rule: AccumulatorRule, x: Array) -> Array:
        """What narrow accumulators keep."""
        return narrow_sum(x, self.axes, rule, x_zero_point=self.input_zero_point)
