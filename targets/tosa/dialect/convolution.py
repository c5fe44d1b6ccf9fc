"""CONV2D, CONV3D, DEPTHWISE_CONV2D and TRANSPOSE_CONV2D: exact accumulators with a bias, RESCALE comes behind.

    acc = sum over the window of (x - input_zp) * (w - weight_zp) + bias

Pads stand in pairs, begin and end of each axis. Source: TOSA specification 1.0, CONV2D and the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.arith.accumulate import convolve, depthwise_convolve, transpose_convolve
from qgraph.arith.exactness import Accumulator, AccumulatorType
from qgraph.arith.kept import kept_with
from qgraph.arith.prepared_weight import PreparedWeight, prepare_convolution, prepare_depthwise
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Dim, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.targets.tosa.dialect.elements import (
    MAX_KERNEL,
    MAX_STRIDE,
    check_limits,
    check_types,
    check_zero_point,
    exact_windows,
    within,
)
from qgraph.targets.tosa.rows import row

COMBINATIONS = ("i8 i8 i32 i32", "i8 i4 i32 i32", "i16 i8 i48 i48")
"""Of x, weight, bias and result."""
ACTIVATION, WEIGHT, ACC = "i8|i16", "i8|i4", "i32|i48"
LARGEST_KERNEL = 2**16
"""Elements of a window times channels are few enough for exact sums in float64."""


def accumulator(dtype: str) -> str:
    """The storage of accumulators beside activations of that storage."""
    return "i48" if dtype == "i16" else "i32"


def begins_and_ends(pad: Sequence[int]) -> tuple[int, ...]:
    """Pads in pairs as all begins, then all ends."""
    return (*pad[0::2], *pad[1::2])


def _check(self: Any, op: str) -> None:
    check_types(op, COMBINATIONS, self.x.type, self.w.type, self.bias.type, self.result.type)
    check_zero_point(op, self.input_zp, self.x.type)
    check_zero_point(op, self.weight_zp, self.w.type)


def _bias_of(op: str, bias: TensorType, outputs: Dim) -> None:
    if bias.shape not in ((1,), (outputs,)):
        raise TypeMismatch(f"{op}: a bias {bias} is not one for each of {outputs} channels, or one for all")


def _windows(self: Any, op: str, kernel: Sequence[Dim]) -> tuple[Dim, ...]:
    """The sizes of the result along the spatial axes."""
    reach = [(int(k) - 1) * d for k, d in zip(kernel, self.dilation, strict=True)]
    check_limits(op, 1, MAX_STRIDE, stride=self.stride, dilation=self.dilation)
    check_limits(op, 0, MAX_KERNEL, pad=self.pad)
    check_limits(op, 1, MAX_KERNEL, kernel=[int(k) * d for k, d in zip(kernel, self.dilation, strict=True)])
    spatial = zip(self.x.type.shape[1:-1], self.pad[0::2], self.pad[1::2], reach, self.stride, strict=True)
    return tuple(
        exact_windows(op, size - 1 + begin + end - covered if isinstance(size, int) else size, step)
        for size, begin, end, covered, step in spatial
    )


def _stored(acc: Accumulator, op: str, result: TensorType) -> Array:
    """Exact accumulators, with the bias, as the result stores them.

    The specification leaves open what a sum beyond the accumulator gives; here it is exact, and refused at the end.
    """
    return within(op, np.asarray(acc), result.dtype)


def _accumulator(self: Any) -> AccumulatorType:
    return AccumulatorType(int(self.result.type.dtype[1:]), {"x": self.input_zp, "w": self.weight_zp})


def _spread(bias: Array | None, outputs: int) -> Array | None:
    """A bias for each output channel."""
    return bias if bias is None or bias.size == outputs else np.repeat(bias, outputs)


class _Convolution:
    """What CONV2D and CONV3D have in common."""

    name = ""

    def check(self) -> None:
        _check(self, self.name)

    def infer(self) -> TensorType:
        view: Any = self
        outputs, *kernel, inputs = view.w.type.shape
        if inputs != view.x.type.shape[-1]:
            raise TypeMismatch(f"{self.name}: the weight {view.w.type} does not have the channels of {view.x.type}")
        _bias_of(self.name, view.bias.type, outputs)
        sizes = _windows(view, self.name, kernel)
        return TensorType((view.x.type.shape[0], *sizes, outputs), accumulator(view.x.type.dtype))

    def accumulator(self) -> AccumulatorType:
        return _accumulator(self)

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact accumulators [N, *S', O]."""
        view: Any = self
        return convolve(
            x,
            prepare_convolution(w, 1, view.weight_zp),
            stride=view.stride,
            pads=begins_and_ends(view.pad),
            dilation=view.dilation,
            x_zero_point=view.input_zp,
            bias=_spread(bias, w.shape[0]),
        )

    def evaluate(self, x: Array, w: Array, bias: Array) -> Array:
        view: Any = self
        return _stored(self.accumulate(x, w, bias), self.name, view.result.type)

    def macs(self) -> int:
        view: Any = self
        return element_count(view.result.type.shape) * element_count(view.w.type.shape[1:])


@op("tosa.conv2d", kind="conv")
class Conv2d(_Convolution):
    """CONV2D: weight [O, Kh, Kw, C], bias for each output channel or one for all."""

    name = "tosa.conv2d"
    x: Operand = operand(f"{ACTIVATION}[N, H, W, C]")
    w: Operand = operand(f"{WEIGHT}[O, Kh, Kw, C]", role="weight")
    bias: Operand = operand(f"{ACC}[B]", role="bias")
    result: Result = result(f"{ACC}[N, H', W', O]", free=True)
    pad: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    stride: tuple[int, int] = attr((1, 1))
    dilation: tuple[int, int] = attr((1, 1))
    input_zp: int = attr(0)
    weight_zp: int = attr(0)
    local_bound: bool = attr(False)  # of accuracy in floating point


@op("tosa.conv3d", kind="conv")
class Conv3d(_Convolution):
    """CONV3D: weight [O, Kd, Kh, Kw, C]."""

    name = "tosa.conv3d"
    x: Operand = operand(f"{ACTIVATION}[N, D, H, W, C]")
    w: Operand = operand(f"{WEIGHT}[O, Kd, Kh, Kw, C]", role="weight")
    bias: Operand = operand(f"{ACC}[B]", role="bias")
    result: Result = result(f"{ACC}[N, D', H', W', O]", free=True)
    pad: tuple[int, int, int, int, int, int] = attr((0, 0, 0, 0, 0, 0))
    stride: tuple[int, int, int] = attr((1, 1, 1))
    dilation: tuple[int, int, int] = attr((1, 1, 1))
    input_zp: int = attr(0)
    weight_zp: int = attr(0)
    local_bound: bool = attr(False)


@op("tosa.depthwise_conv2d", kind="conv")
class DepthwiseConv2d:
    """DEPTHWISE_CONV2D: weight [Kh, Kw, C, M]; output channel c * M + m reads input channel c."""

    x: Operand = operand(f"{ACTIVATION}[N, H, W, C]")
    w: Operand = operand(f"{WEIGHT}[Kh, Kw, C, M]", role="weight")
    bias: Operand = operand(f"{ACC}[B]", role="bias")
    result: Result = result(f"{ACC}[N, H', W', O]", free=True)
    pad: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    stride: tuple[int, int] = attr((1, 1))
    dilation: tuple[int, int] = attr((1, 1))
    input_zp: int = attr(0)
    weight_zp: int = attr(0)
    local_bound: bool = attr(False)

    def check(self) -> None:
        _check(self, "tosa.depthwise_conv2d")

    def infer(self) -> TensorType:
        *kernel, channels, multiplier = self.w.type.shape
        outputs = int(channels) * int(multiplier)
        _bias_of("tosa.depthwise_conv2d", self.bias.type, outputs)
        sizes = _windows(self, "tosa.depthwise_conv2d", kernel)
        return TensorType((self.x.type.shape[0], *sizes, outputs), accumulator(self.x.type.dtype))

    def accumulator(self) -> AccumulatorType:
        return _accumulator(self)

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact accumulators [N, H', W', C * M]."""
        return depthwise_convolve(
            x,
            _taps(w, self.weight_zp),
            stride=self.stride,
            pads=begins_and_ends(self.pad),
            dilation=self.dilation,
            x_zero_point=self.input_zp,
            bias=_spread(bias, w.shape[2] * w.shape[3]),
        )

    def evaluate(self, x: Array, w: Array, bias: Array) -> Array:
        return _stored(self.accumulate(x, w, bias), "tosa.depthwise_conv2d", self.result.type)

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[:2])


@kept_with(1)
def _taps(w: Array, zero_point: int) -> PreparedWeight:
    return prepare_depthwise(w, zero_point)


@op("tosa.transpose_conv2d", kind="conv_transpose")
class TransposeConv2d:
    """TRANSPOSE_CONV2D: weight [O, Kh, Kw, C]; `out_pad` is added to the whole result, or cut off it."""

    x: Operand = operand(f"{ACTIVATION}[N, H, W, C]")
    w: Operand = operand(f"{WEIGHT}[O, Kh, Kw, C]", role="weight")
    bias: Operand = operand(f"{ACC}[B]", role="bias")
    result: Result = result(f"{ACC}[N, H', W', O]", free=True)
    out_pad: tuple[int, int, int, int] = attr((0, 0, 0, 0))
    stride: tuple[int, int] = attr((1, 1))
    input_zp: int = attr(0)
    weight_zp: int = attr(0)
    local_bound: bool = attr(False)

    def check(self) -> None:
        _check(self, "tosa.transpose_conv2d")

    def infer(self) -> TensorType:
        name = "tosa.transpose_conv2d"
        outputs, *kernel, _ = self.w.type.shape
        _bias_of(name, self.bias.type, outputs)
        check_limits(name, 1, MAX_STRIDE, stride=self.stride)
        check_limits(name, 1, MAX_KERNEL, kernel=[int(k) for k in kernel])
        sizes = []
        axes = zip(self.x.type.shape[1:3], kernel, self.stride, self.out_pad[0::2], self.out_pad[1::2], strict=True)
        for size, k, stride, begin, end in axes:
            check_limits(name, 1 - int(k), MAX_KERNEL, out_pad=(begin, end))
            whole = (int(size) - 1) * stride + begin + end + int(k)
            if whole < 1:
                raise TypeMismatch(f"{name}: out_pad={list(self.out_pad)} leaves nothing of the result")
            sizes.append(whole)
        return TensorType((self.x.type.shape[0], *sizes, outputs), accumulator(self.x.type.dtype))

    def accumulator(self) -> AccumulatorType:
        return _accumulator(self)

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact accumulators [N, H', W', O]."""
        return transpose_convolve(
            x,
            w,
            stride=self.stride,
            pads=(-self.out_pad[0], -self.out_pad[2]),
            sizes=[int(size) for size in self.infer().shape[1:3]],
            x_zero_point=self.input_zp,
            weight_zero_point=self.weight_zp,
            bias=_spread(bias, w.shape[0]),
        )

    def evaluate(self, x: Array, w: Array, bias: Array) -> Array:
        return _stored(self.accumulate(x, w, bias), "tosa.transpose_conv2d", self.result.type)

    def macs(self) -> int:
        return element_count(self.x.type.shape) * element_count(self.w.type.shape[:3])


for _op, _operator in (
    ("conv2d", "CONV2D"),
    ("conv3d", "CONV3D"),
    ("depthwise_conv2d", "DEPTHWISE_CONV2D"),
    ("transpose_conv2d", "TRANSPOSE_CONV2D"),
):
    row(f"tosa.{_op}", _operator, {"input_zp": "x", "weight_zp": "w"}, acc_type=accumulator)
