"""Ops that add up products: convolutions, linear layers, products of matrices. Accumulators out, no rounding.

    acc = bias + sum over the window of (x - input_zero_point) * w

Pads are `input_zero_point`s, so that they add nothing. The bias is where the accumulator begins; there is none where a
stage adds it.
"""

from __future__ import annotations

from typing import Any

from qgraph.arith.accumulate import batch_matmul, convolve, depthwise_convolve, matmul
from qgraph.arith.exactness import Accumulator
from qgraph.arith.narrow_accumulator import (
    AccumulatorRule,
    narrow_batch_matmul,
    narrow_convolve,
    narrow_depthwise,
    narrow_matmul,
)
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.ops.nn.linear import check_groups, window_shape
from qgraph.ops.npu.accumulator import Accumulating
from qgraph.ops.npu.storage import ACCUMULATORS, CODES, WEIGHTS


@op("npu.conv2d", kind="conv")
class Conv2d(Accumulating):
    """A convolution of weight [O, Kh, Kw, C / groups]; `pads`: top, left, bottom, right."""

    x: Operand = operand(f"{CODES}[N, H, W, C]")
    w: Operand = operand(f"{WEIGHTS}[O, Kh, Kw, I]", role="weight")
    bias: Operand | None = operand(f"{ACCUMULATORS}[O]", role="bias", optional=True)
    result: Result = result(f"{ACCUMULATORS}[N, H', W', O]", free=True)
    stride: tuple[int, int] = attr((1, 1))
    pads: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    dilation: tuple[int, int] = attr((1, 1))
    groups: int = attr(1)
    input_zero_point: int = attr(0)

    def infer(self) -> TensorType:
        batch, *spatial, channels = self.x.type.shape
        out, *kernel, per_group = self.w.type.shape
        check_groups(channels, out, per_group, self.groups)
        sizes = window_shape(tuple(spatial), tuple(kernel), self.stride, self.pads, self.dilation)
        return self.x.type.with_shape((batch, *sizes, out))

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact sums [N, H', W', O]."""
        return convolve(x, w, **self._words(), bias=bias)

    def narrow(self, rule: AccumulatorRule, x: Array, w: Array, bias: Array | None) -> Array:
        """What narrow accumulators keep."""
        return narrow_convolve(x, w, rule, **self._words(), bias=bias)

    def _words(self) -> dict[str, Any]:
        window = {"stride": self.stride, "pads": self.pads, "dilation": self.dilation, "groups": self.groups}
        return {**window, "x_zero_point": self.input_zero_point}

    def zeros(self) -> dict[str, int]:
        return {"x": self.input_zero_point, "w": 0}

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])


@op("npu.depthwise_conv2d", kind="conv")
class DepthwiseConv2d(Accumulating):
    """A convolution of each channel by itself; weight [Kh, Kw, C, M], result channel c * M + m reads channel c."""

    x: Operand = operand(f"{CODES}[N, H, W, C]")
    w: Operand = operand(f"{WEIGHTS}[Kh, Kw, C, M]", role="weight")
    bias: Operand | None = operand(f"{ACCUMULATORS}[O]", role="bias", optional=True)
    result: Result = result(f"{ACCUMULATORS}[N, H', W', O]", free=True)
    stride: tuple[int, int] = attr((1, 1))
    pads: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    dilation: tuple[int, int] = attr((1, 1))
    input_zero_point: int = attr(0)

    def infer(self) -> TensorType:
        batch, *spatial, _ = self.x.type.shape
        *kernel, channels, multiplier = self.w.type.shape
        sizes = window_shape(tuple(spatial), tuple(kernel), self.stride, self.pads, self.dilation)
        return self.x.type.with_shape((batch, *sizes, int(channels) * int(multiplier)))

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact sums [N, H', W', C * M]."""
        return depthwise_convolve(x, w, **self._words(), bias=bias)

    def narrow(self, rule: AccumulatorRule, x: Array, w: Array, bias: Array | None) -> Array:
        """What narrow accumulators keep."""
        return narrow_depthwise(x, w, rule, **self._words(), bias=bias)

    def _words(self) -> dict[str, Any]:
        window = {"stride": self.stride, "pads": self.pads, "dilation": self.dilation}
        return {**window, "x_zero_point": self.input_zero_point}

    def zeros(self) -> dict[str, int]:
        return {"x": self.input_zero_point, "w": 0}

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[:2])


@op("npu.linear", kind="linear")
class Linear(Accumulating):
    """A product with the weight [O, I], along the last axis of x."""

    x: Operand = operand(f"{CODES}[*S, I]")
    w: Operand = operand(f"{WEIGHTS}[O, I]", role="weight")
    bias: Operand | None = operand(f"{ACCUMULATORS}[O]", role="bias", optional=True)
    result: Result = result(f"{ACCUMULATORS}[*S, O]", free=True)
    input_zero_point: int = attr(0)

    def infer(self) -> TensorType:
        return self.x.type.with_shape((*self.x.type.shape[:-1], self.w.type.shape[0]))

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact sums [..., O]."""
        return matmul(x, w, x_zero_point=self.input_zero_point, bias=bias)

    def narrow(self, rule: AccumulatorRule, x: Array, w: Array, bias: Array | None) -> Array:
        """What narrow accumulators keep."""
        return narrow_matmul(x, w, rule, x_zero_point=self.input_zero_point, bias=bias)

    def zeros(self) -> dict[str, int]:
        return {"x": self.input_zero_point, "w": 0}

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])


@op("npu.matmul", kind="matmul")
class Matmul(Accumulating):
    """Products of two activations, matrices [..., M, K] and [..., K, N] or [K, N]."""

    a: Operand = operand(f"{CODES}[...]")
    b: Operand = operand(f"{CODES}[...]")
    result: Result = result(f"{ACCUMULATORS}[...]", free=True)
    input_zero_point: int = attr(0)
    second_zero_point: int = attr(0)

    def infer(self) -> TensorType:
        a, b = self.a.type.shape, self.b.type.shape
        if min(len(a), len(b)) < 2 or a[-1] != b[-2] or (len(b) > 2 and a[:-2] != b[:-2]):
            raise TypeMismatch(f"npu.matmul: {self.a.type} and {self.b.type} are no matrices that can be multiplied")
        return self.a.type.with_shape((*a[:-1], b[-1]))

    def accumulate(self, a: Array, b: Array) -> Accumulator:
        """Exact sums [..., M, N]."""
        return batch_matmul(a, b, x_zero_point=self.input_zero_point, y_zero_point=self.second_zero_point)

    def narrow(self, rule: AccumulatorRule, a: Array, b: Array) -> Array:
        """What narrow accumulators keep."""
        zeros = {"x_zero_point": self.input_zero_point, "y_zero_point": self.second_zero_point}
        return narrow_batch_matmul(a, b, rule, **zeros)

    def zeros(self) -> dict[str, int]:
        return {"a": self.input_zero_point, "b": self.second_zero_point}

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.a.type.shape[-1:])
