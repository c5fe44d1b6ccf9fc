"""MAX_POOL_2D and AVERAGE_POOL_2D."""

from __future__ import annotations

import numpy as np

from qgraph.arith.pooling import max_pool, window_sum
from qgraph.arith.rounding import divide_half_away
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.dialect.parameters import activation_range
from qgraph.targets.litert.dialect.windows import ACTIVATIONS, PADDINGS, POOLED, pads_of, same_parameters, window_type
from qgraph.targets.litert.rows import row


def average(total: Array, count: Array, activation: str, result: TensorType) -> Array:
    """The mean of the raw integers, half away. Source: reference/integer_ops/pooling.h."""
    return np.clip(divide_half_away(total, count), *activation_range(activation, result)).astype(result.numpy)


class Pool:
    """What pools share: windows over height and width, and parameters that the result has from its operand."""

    x: Operand = operand("i8q|u8q|i16q[N, H, W, C]")
    result: Result = result("i8q|u8q|i16q[N, H', W', C]", free=True)
    kernel: tuple[int, int] = attr()
    stride: tuple[int, int] = attr()
    padding: str = attr(choices=PADDINGS)
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        sizes = window_type(self.x.type, self.kernel, self.stride, (1, 1), self.padding)
        return self.x.type.with_shape((self.x.type.shape[0], *sizes, self.x.type.shape[3]))

    def check(self) -> None:
        same_parameters(self.x.type, self.result.type, type(self).__name__)


@op("litert.max_pool_2d", kind="max_pool", family="pool", moves_data=True)
class MaxPool2d(Pool):
    """MAX_POOL_2D: the largest integer of each window; padding never wins."""

    def pooled(self, x: Array) -> Array:
        """The maxima, before the activation."""
        return max_pool(x, self.kernel, self.stride, pads_of(x, self.kernel, self.stride, (1, 1), self.padding))

    def evaluate(self, x: Array) -> Array:
        return np.clip(self.pooled(x), *activation_range(self.activation, self.result.type))


row("litert.max_pool_2d", "MAX_POOL_2D", options=POOLED)


@op("litert.average_pool_2d", kind="mean", family="pool")
class AveragePool2d(Pool):
    """AVERAGE_POOL_2D: the mean of the integers of each window that lie inside x, half away from zero."""

    def evaluate(self, x: Array) -> Array:
        pads = pads_of(x, self.kernel, self.stride, (1, 1), self.padding)
        total, count = window_sum(x, self.kernel, self.stride, pads)
        return average(total, count, self.activation, self.result.type)


row("litert.average_pool_2d", "AVERAGE_POOL_2D", options=POOLED)


@on_floats("litert.float_max_pool_2d", of="litert.max_pool_2d", exact_on=REFERENCE)
class FloatMaxPool2d(MaxPool2d):
    """MAX_POOL_2D on floats."""


@on_floats("litert.float_average_pool_2d", of="litert.average_pool_2d")
class FloatAveragePool2d(AveragePool2d):
    """AVERAGE_POOL_2D on floats."""
