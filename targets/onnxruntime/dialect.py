"""The `ort` dialect: ONNX Runtime's integer operators (QOperator form) on u8 or i8, NCHW, spelled as in ONNX.

Here are layers, sums, pools and conversions; `functions`, `products` and `moving` hold the rest.

`evaluate` is the CPU kernels' arithmetic (`kernels`). Where a convolution or pooling made an array, it is an NCHW view
of channels-last memory, so that the next one need not copy.
"""

from __future__ import annotations

import math

import numpy as np

from qgraph.arith.accumulate import convolve, matmul
from qgraph.arith.exactness import Accumulator, AccumulatorType, as_int32
from qgraph.arith.pooling import max_pool
from qgraph.errors import TypeMismatch
from qgraph.exporters.onnx_forms import ALONE, BIAS, MICROSOFT, B, NodeForm, Slot, W, X, Y, bias_params
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count, integer_range
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.ops.nn.linear import check_groups, window_shape
from qgraph.ops.nn.shape import concatenated
from qgraph.ops.quant import per_axis
from qgraph.targets.onnxruntime import float_kernels, kernels, read_nodes


def check_product(x: TensorType, w: TensorType, bias: TensorType | None, result: TensorType, what: str) -> None:
    """Raise TypeMismatch where operand types of QLinearConv or QGemm do not go together."""
    if (x.dtype, w.dtype) == ("i8", "u8"):
        raise TypeMismatch(f"{what} has no kernel for i8 activations with u8 weights")
    if w.q.axis not in (None, 0):
        raise TypeMismatch(f"{what}: the weight's parameters must be per tensor or on axis 0, not on axis {w.q.axis}")
    if bias is not None and bias.quant != bias_params(x.q, w.q):
        raise TypeMismatch(f"{what}: the bias must have the scale x_scale * w_scale")
    same_dtype(x, result, what)


def zeros(type: TensorType) -> Array:
    """The zero points of a type, as they broadcast along its arrays."""
    return per_axis(type.q.zero_points, type.rank, type.q.axis)


def same_dtype(x: TensorType, result: TensorType, what: str) -> None:
    """Raise TypeMismatch where operand and result are not both u8 or both i8, or have parameters per axis."""
    if x.dtype != result.dtype or x.q.axis is not None or result.q.axis is not None:
        raise TypeMismatch(f"{what}: operand {x} and result {result} must have one dtype, and parameters per tensor")


@op("ort.QLinearConv", kind="conv")
class QLinearConv:
    """Convolution of one to three spatial dimensions.

    result = clamp(rint(acc * ((x_scale * w_scale) / result_scale)) + zero_point)

    The accumulator wraps at int32; padding is x's zero point.
    """

    onnx = NodeForm((X, W, Y, BIAS), "Conv", window=True)
    x: Operand = operand("u8q|i8q[N, C, *S]")
    w: Operand = operand("u8q|i8q[O, I, *K]", role="weight")
    bias: Operand | None = operand("i32q[O]", optional=True, role="bias")
    result: Result = result("u8q|i8q[N, O, *S']", free=True)
    strides: tuple[int, ...] = attr()
    pads: tuple[int, ...] = attr()
    dilations: tuple[int, ...] = attr()
    group: int = attr(1)

    def infer(self) -> TensorType:
        batch, channels, *spatial = self.x.type.shape
        out, per_group, *kernel = self.w.type.shape
        check_groups(channels, out, per_group, self.group)
        shape = window_shape(tuple(spatial), tuple(kernel), self.strides, self.pads, self.dilations)
        return self.x.type.with_shape((batch, out, *shape))

    def check(self) -> None:
        bias = None if self.bias is None else self.bias.type
        check_product(self.x.type, self.w.type, bias, self.result.type, "ort.QLinearConv")

    def accumulator(self) -> AccumulatorType:
        return AccumulatorType(32, {"x": zeros(self.x.type), "w": zeros(self.w.type)})

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact accumulators, channels last: [N, *S', O]."""
        return convolve(
            np.moveaxis(x, 1, -1),
            np.moveaxis(w, 1, -1),
            stride=self.strides,
            pads=self.pads,
            dilation=self.dilations,
            groups=self.group,
            x_zero_point=int(self.x.type.q.zero_points[0]),
            weight_zero_point=self.w.type.q.zero_points,
            bias=bias,
        )

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        q = (self.x.type.q, self.w.type.q, self.result.type.q)
        y = kernels.requantize_product(self.accumulate(x, w, bias), *q, self.result.type.dtype)
        return y.movedim(-1, 1) if hasattr(y, "movedim") else np.moveaxis(y, -1, 1)  # of torch, or NumPy


@op("ort.QGemm", kind="linear")
class QGemm:
    """x @ w transposed + bias (transA=0, transB=1, alpha=1), requantized as `ort.QLinearConv`."""

    onnx = NodeForm(
        (X, Slot("quantized", 1, axis=read_nodes.gemm_axis), BIAS, Y),
        "Gemm",
        {"transB": 1},
        {"transB": 1},
        MICROSOFT,
        read=read_nodes.gemm,
    )
    x: Operand = operand("u8q|i8q[N, I]")
    w: Operand = operand("u8q|i8q[O, I]", role="weight")
    bias: Operand | None = operand("i32q[O]", optional=True, role="bias")
    result: Result = result("u8q|i8q|f32[N, O]", free=True)

    def infer(self) -> TensorType:
        return self.x.type.with_shape((self.x.type.shape[0], self.w.type.shape[0]))

    def check(self) -> None:
        bias = None if self.bias is None else self.bias.type
        made = self.x.type if self.result.type.is_float else self.result.type
        check_product(self.x.type, self.w.type, bias, made, "ort.QGemm")

    def accumulator(self) -> AccumulatorType:
        return AccumulatorType(32, {"x": zeros(self.x.type), "w": zeros(self.w.type)})

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact accumulators [N, O]."""
        zero = int(self.x.type.q.zero_points[0])
        return matmul(x, w, x_zero_point=zero, weight_zero_point=self.w.type.q.zero_points, bias=bias)

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        acc = self.accumulate(x, w, bias)
        if self.result.type.is_float:  # no scale of a result: acc * (x_scale * w_scale)
            return np.asarray(as_int32(acc).astype(np.float32) * (self.x.type.q.scales[0] * self.w.type.q.scales))
        q = (self.x.type.q, self.w.type.q, self.result.type.q)
        return kernels.requantize_product(acc, *q, self.result.type.dtype)


@op("ort.QLinearAdd", kind="add", commutative=True, elementwise=True)
class QLinearAdd:
    """a + b with broadcasting: `kernels.sum_table`."""

    onnx = NodeForm((X, B, Y), "Add", domain=MICROSOFT)
    a: Operand = operand("u8q|i8q[...]")
    b: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]", free=True)

    def infer(self) -> TensorType:
        return self.a.type.with_shape(broadcast_shape(self.a.type.shape, self.b.type.shape))

    def check(self) -> None:
        same_dtype(self.a.type, self.result.type, "ort.QLinearAdd")
        same_dtype(self.b.type, self.result.type, "ort.QLinearAdd")

    def evaluate(self, a: Array, b: Array) -> Array:
        return kernels.add(a, b, self.a.type.q, self.b.type.q, self.result.type.q, self.result.type.dtype)


@op("ort.MaxPool", kind="max_pool", family="pool", moves_data=True)
class MaxPool:
    """The largest integer of each window; padding never wins."""

    onnx = NodeForm((ALONE,), "MaxPool", window=True)
    x: Operand = operand("u8q|i8q[N, C, *S]")
    result: Result = result("u8q|i8q[N, C, *S']")
    kernel_shape: tuple[int, ...] = attr()
    strides: tuple[int, ...] = attr()
    pads: tuple[int, ...] = attr()
    dilations: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        batch, channels, *spatial = self.x.type.shape
        shape = window_shape(tuple(spatial), self.kernel_shape, self.strides, self.pads, self.dilations)
        return self.x.type.with_shape((batch, channels, *shape))

    def evaluate(self, x: Array) -> Array:
        y = max_pool(np.moveaxis(x, 1, -1), self.kernel_shape, self.strides, self.pads, self.dilations)
        return np.moveaxis(y, -1, 1)


@op("ort.QLinearAveragePool", kind="mean", family="pool")
class QLinearAveragePool:
    """The mean of each window, in float32: `kernels.average`. With `count_include_pad` the divisor counts padding."""

    onnx = NodeForm((X, Y), "AveragePool", {"channels_last": 0}, domain=MICROSOFT, window=True)
    x: Operand = operand("u8q|i8q[N, C, *S]")
    result: Result = result("u8q|i8q[N, C, *S']", free=True)
    kernel_shape: tuple[int, ...] = attr()
    strides: tuple[int, ...] = attr()
    pads: tuple[int, ...] = attr()
    count_include_pad: int = attr(0)

    def infer(self) -> TensorType:
        batch, channels, *spatial = self.x.type.shape
        ones = (1,) * len(self.kernel_shape)
        shape = window_shape(tuple(spatial), self.kernel_shape, self.strides, self.pads, ones)
        return self.x.type.with_shape((batch, channels, *shape))

    def check(self) -> None:
        same_dtype(self.x.type, self.result.type, "ort.QLinearAveragePool")

    def evaluate(self, x: Array) -> Array:
        q, qr, dtype = self.x.type.q, self.result.type.q, self.result.type.dtype
        window = (self.kernel_shape, self.strides, self.pads)
        return kernels.average(x, q, qr, *window, bool(self.count_include_pad), dtype)


@op("ort.QLinearGlobalAveragePool", kind="mean", family="pool")
class QLinearGlobalAveragePool:
    """The mean over all spatial dimensions, which stay as size 1; sums in integers: `kernels.global_average`."""

    onnx = NodeForm((X, Y), "GlobalAveragePool", {"channels_last": 0}, domain=MICROSOFT)
    x: Operand = operand("u8q|i8q[N, C, *S]")
    result: Result = result("u8q|i8q[N, C, *S']", free=True)

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if len(shape) < 3 or not all(isinstance(size, int) for size in shape[2:]):
            raise TypeMismatch(f"ort.QLinearGlobalAveragePool: the spatial sizes of {self.x.type} must be known")
        return self.x.type.with_shape((*shape[:2], *(1 for _ in shape[2:])))

    def check(self) -> None:
        same_dtype(self.x.type, self.result.type, "ort.QLinearGlobalAveragePool")
        count = math.prod(int(size) for size in self.x.type.shape[2:])
        factor = float(kernels.global_average_factor(self.x.type.q, self.result.type.q, count))
        low, high = kernels.GLOBAL_AVERAGE_RANGE
        if not low <= factor < high:
            raise TypeMismatch(f"ort.QLinearGlobalAveragePool: the factor {factor:.3g} is outside [2**-32, 256)")

    def evaluate(self, x: Array) -> Array:
        return kernels.global_average(x, self.x.type.q, self.result.type.q, self.result.type.dtype)


@op("ort.GlobalAveragePool", kind="mean", family="pool")
class GlobalAveragePool:
    """The mean of floats over all spatial dimensions: `float_kernels.global_mean`, which is not ReduceMean's."""

    onnx = NodeForm((ALONE,), floats=True)
    x: Operand = operand("f32[N, C, *S]")
    result: Result = result("f32[N, C, *S']")

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        return TensorType((*shape[:2], *(1 for _ in shape[2:])))

    def evaluate(self, x: Array) -> Array:
        return float_kernels.global_mean(x)


@op("ort.QLinearConcat", kind="concat", family="shape")
class QLinearConcat:
    """The operands joined along `axis`, each requantized where its parameters are not the result's."""

    onnx = NodeForm((Y, Slot("rest")), "Concat", domain=MICROSOFT)
    xs: list[Operand] = operand("u8q|i8q[...]", variadic=True)
    result: Result = result("u8q|i8q[...]", free=True)
    axis: int = attr()

    def infer(self) -> TensorType:
        first = self.xs[0].type
        return concatenated([first.with_shape(x.type.shape) for x in self.xs], self.axis)

    def check(self) -> None:
        for x in self.xs:
            same_dtype(x.type, self.result.type, "ort.QLinearConcat")

    def evaluate(self, xs: list[Array]) -> Array:
        q = self.result.type.q
        arrays = [kernels.requantize(x, v.type.q, q) for x, v in zip(xs, self.xs, strict=True)]
        return np.concatenate(arrays, axis=self.axis)


def check_code(code: int, type: TensorType, what: str) -> None:
    """Raise TypeMismatch for an integer that the type does not hold."""
    low, high = integer_range(type.dtype)
    if not low <= code <= high:
        raise TypeMismatch(f"{what} is {code}, outside {type.dtype}")


@op("ort.Clip", kind="activation", elementwise=True)
class Clip:
    """The integers of x, at least `min` and at most `max`: an activation that the range of u8 or i8 does not give."""

    onnx = NodeForm((ALONE, Slot("code", attr="min"), Slot("code", attr="max")), "Clip")
    x: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]")
    min: int = attr()
    max: int = attr()

    def infer(self) -> TensorType:
        check_code(self.min, self.x.type, "ort.Clip: min")
        check_code(self.max, self.x.type, "ort.Clip: max")
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.clip(x, x.dtype.type(self.min), x.dtype.type(self.max))


@op("ort.Identity", kind="identity", elementwise=True)
class Identity:
    """The codes of x, which stand for other numbers from here on: a file may read a tensor by scales of its own."""

    onnx = NodeForm((ALONE,))
    x: Operand = operand("any[...]")
    result: Result = result("any[...]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def check(self) -> None:
        if self.x.type.dtype != self.result.type.dtype:
            raise TypeMismatch(f"ort.Identity: {self.x.type} cannot become {self.result.type}")

    def evaluate(self, x: Array) -> Array:
        return x


@op("ort.QuantizeLinear", kind="quantize")
class QuantizeLinear:
    """Float32 to integers: clamp(rint(x / scale) + zero_point), ties to even."""

    onnx = NodeForm((ALONE, Y), by_axis=True)
    x: Operand = operand("f32[...]")
    result: Result = result("u8q|i8q|u16q|i16q[...]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return kernels.quantize(x, self.result.type.q, self.result.type.dtype)


@op("ort.DequantizeLinear", kind="dequantize")
class DequantizeLinear:
    """(x - zero_point) * scale in float32."""

    onnx = NodeForm((X,), by_axis=True)
    x: Operand = operand("u8q|i8q|u16q|i16q|i32q[...]")
    result: Result = result("f32[...]")

    def infer(self) -> TensorType:
        return TensorType(self.x.type.shape)

    def evaluate(self, x: Array) -> Array:
        return kernels.dequantize(x, self.x.type.q)
