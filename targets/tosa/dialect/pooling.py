"""MAX_POOL2D and AVG_POOL2D, whose windows fit without a remainder. Source: TOSA specification 1.0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qgraph.arith.pooling import max_pool, window_sum
from qgraph.arith.tosa_scale import apply_scale_32, reciprocal_scale
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Dim, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.targets.tosa.dialect.convolution import begins_and_ends
from qgraph.targets.tosa.dialect.elements import (
    MAX_KERNEL,
    MAX_STRIDE,
    check_limits,
    check_types,
    check_zero_point,
    exact_windows,
)
from qgraph.targets.tosa.rows import row

LARGEST_WINDOW = 2**16
"""Elements up to which the sum of an average is exact in int32."""


def pooled(self: Any, op: str) -> TensorType:
    """The type of a pool's result."""
    check_limits(op, 1, MAX_KERNEL, kernel=self.kernel)
    check_limits(op, 1, MAX_STRIDE, stride=self.stride)
    sizes: list[Dim] = []
    axes = zip(self.x.type.shape[1:3], self.kernel, self.stride, self.pad[0::2], self.pad[1::2], strict=True)
    for size, kernel, stride, begin, end in axes:
        check_limits(op, 0, min(kernel - 1, MAX_KERNEL), pad=(begin, end))
        space = size + begin + end - kernel if isinstance(size, int) else size
        sizes.append(exact_windows(op, space, stride))
    type: TensorType = self.x.type
    return type.with_shape((type.shape[0], *sizes, type.shape[3]))


@op("tosa.max_pool2d", kind="max_pool", moves_data=True)
class MaxPool2d:
    """MAX_POOL2D: padding is below every value."""

    x: Operand = operand("i8|i16[N, H, W, C]")
    result: Result = result("i8|i16[N, H', W', C]", free=True)
    kernel: tuple[int, int] = attr()
    stride: tuple[int, int] = attr((1, 1))
    pad: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    nan_mode: str = attr("PROPAGATE")

    def infer(self) -> TensorType:
        return pooled(self, "tosa.max_pool2d")

    def check(self) -> None:
        check_types("tosa.max_pool2d", ("i8 i8", "i16 i16"), self.x.type, self.result.type)

    def evaluate(self, x: Array) -> Array:
        return max_pool(x, self.kernel, self.stride, begins_and_ends(self.pad))


@op("tosa.avg_pool2d", kind="avg_pool")
class AvgPool2d:
    """AVG_POOL2D: the sum without the zero point, times a reciprocal of the number of elements that are no padding."""

    x: Operand = operand("i8|i16[N, H, W, C]")
    result: Result = result("i8|i16[N, H', W', C]", free=True)
    kernel: tuple[int, int] = attr()
    stride: tuple[int, int] = attr((1, 1))
    pad: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    input_zp: int = attr(0)
    output_zp: int = attr(0)

    def infer(self) -> TensorType:
        if math.prod(self.kernel) >= LARGEST_WINDOW:
            raise TypeMismatch(
                f"tosa.avg_pool2d: a window of {list(self.kernel)} has {LARGEST_WINDOW} elements or more"
            )
        return pooled(self, "tosa.avg_pool2d")

    def check(self) -> None:
        check_types("tosa.avg_pool2d", ("i8 i8", "i16 i16"), self.x.type, self.result.type)
        check_zero_point("tosa.avg_pool2d", self.input_zp, self.x.type)
        check_zero_point("tosa.avg_pool2d", self.output_zp, self.result.type)

    def evaluate(self, x: Array) -> Array:
        total, counts = window_sum(x, self.kernel, self.stride, begins_and_ends(self.pad))
        acc = total.astype(np.int64) - np.int64(self.input_zp) * counts
        multiplier, shift = reciprocal_scale(counts)
        made = apply_scale_32(acc, multiplier, shift) + self.output_zp
        return np.clip(made, *integer_range(self.result.type.dtype)).astype(self.result.type.numpy)


row("tosa.max_pool2d", "MAX_POOL2D")
row("tosa.avg_pool2d", "AVG_POOL2D", {"input_zp": "x", "output_zp": "result"}, acc_type=lambda dtype: "i32")
