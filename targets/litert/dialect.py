"""The `litert` dialect: LiteRT's builtin operators on int8, NHWC. `evaluate` is the reference kernels' arithmetic."""

from __future__ import annotations

import numpy as np

from qgraph.arith.accumulate import convolve, depthwise_convolve, matmul
from qgraph.arith.pooling import max_pool, window_sum
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Shape
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.ops.nn.shape import concatenated, padded_shape, reshaped
from qgraph.ops.quant import quantize
from qgraph.targets.litert import kernels
from qgraph.targets.litert.padding import output_size, same_pads

PADDINGS = ("SAME", "VALID")
ACTIVATIONS = ("NONE", "RELU", "RELU6")


def window_type(
    x: TensorType, kernel: Shape, stride: tuple[int, int], dilation: tuple[int, int], padding: str
) -> Shape:
    """Spatial sizes of a window op's result."""
    sizes = []
    for size, k, s, d in zip(x.shape[1:3], kernel, stride, dilation, strict=True):
        if not isinstance(size, int) or not isinstance(k, int):
            raise TypeMismatch(f"the spatial sizes of {x} must be known")
        sizes.append(output_size(size, k, s, d, padding))
    if min(sizes) < 1:
        raise TypeMismatch(f"the window {list(kernel)} does not fit into {x}")
    return tuple(sizes)


def pads_of(
    x: Array, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int], padding: str
) -> tuple[int, ...]:
    """The pads (begins, ends) that "SAME" stands for; zeros for "VALID"."""
    if padding == "VALID":
        return (0, 0, 0, 0)
    return same_pads(x.shape[1:3], kernel, stride, dilation)


@op("litert.conv_2d")
class Conv2d:
    """CONV_2D: int8 convolution, weight [O, Kh, Kw, C / groups] per tensor or per output channel, int32 bias.

    LiteRT refuses the op without a bias.
    """

    x: Operand = operand("i8q[N, H, W, C]")
    w: Operand = operand("i8q[O, Kh, Kw, I]")
    bias: Operand = operand("i32q[O]")
    result: Result = result("i8q[N, H', W', O]", free=True)
    stride: tuple[int, int] = attr()
    padding: str = attr(choices=PADDINGS)
    dilation: tuple[int, int] = attr((1, 1))
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        out, *kernel, per_group = self.w.type.shape
        channels = self.x.type.shape[3]
        if not isinstance(channels, int) or not isinstance(per_group, int) or channels % per_group:
            raise TypeMismatch(f"{channels} channels are not a multiple of the weight's {per_group}")
        sizes = window_type(self.x.type, tuple(kernel), self.stride, self.dilation, self.padding)
        return self.x.type.with_shape((self.x.type.shape[0], *sizes, out))

    def accumulate(self, x: Array, w: Array, bias: Array) -> Array:
        """Exact accumulators [N, H', W', O]."""
        pads = pads_of(x, w.shape[1:3], self.stride, self.dilation, self.padding)
        groups, zero = x.shape[3] // w.shape[3], int(self.x.type.q.zero_points[0])
        return convolve(
            x, w, stride=self.stride, pads=pads, dilation=self.dilation, groups=groups, x_zero_point=zero, bias=bias
        )

    def evaluate(self, x: Array, w: Array, bias: Array) -> Array:
        q = (self.x.type.q, self.w.type.q, self.result.type.q)
        return kernels.requantize_convolution(self.accumulate(x, w, bias), *q, self.activation)


@op("litert.depthwise_conv_2d")
class DepthwiseConv2d:
    """DEPTHWISE_CONV_2D: weight [1, Kh, Kw, C * M]; output channel c * M + m reads input channel c.

    LiteRT crashes on the op without a bias.
    """

    x: Operand = operand("i8q[N, H, W, C]")
    w: Operand = operand("i8q[1, Kh, Kw, O]")
    bias: Operand = operand("i32q[O]")
    result: Result = result("i8q[N, H', W', O]", free=True)
    stride: tuple[int, int] = attr()
    padding: str = attr(choices=PADDINGS)
    dilation: tuple[int, int] = attr((1, 1))
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        _, *kernel, out = self.w.type.shape
        channels = self.x.type.shape[3]
        if not isinstance(channels, int) or not isinstance(out, int) or out % channels:
            raise TypeMismatch(f"{out} output channels are not a multiple of {channels} input channels")
        sizes = window_type(self.x.type, tuple(kernel), self.stride, self.dilation, self.padding)
        return self.x.type.with_shape((self.x.type.shape[0], *sizes, out))

    def accumulate(self, x: Array, w: Array, bias: Array) -> Array:
        """Exact accumulators [N, H', W', C * M]."""
        _, height, width, out = w.shape
        pads = pads_of(x, (height, width), self.stride, self.dilation, self.padding)
        weight = w.reshape(height, width, x.shape[3], out // x.shape[3])
        zero = int(self.x.type.q.zero_points[0])
        return depthwise_convolve(
            x, weight, stride=self.stride, pads=pads, dilation=self.dilation, x_zero_point=zero, bias=bias
        )

    def evaluate(self, x: Array, w: Array, bias: Array) -> Array:
        q = (self.x.type.q, self.w.type.q, self.result.type.q)
        return kernels.requantize_convolution(self.accumulate(x, w, bias), *q, self.activation)


@op("litert.fully_connected")
class FullyConnected:
    """FULLY_CONNECTED over the last dimension: weight [O, I], per tensor or per output channel."""

    x: Operand = operand("i8q[*B, I]")
    w: Operand = operand("i8q[O, I]")
    bias: Operand | None = operand("i32q[O]", optional=True)
    result: Result = result("i8q[*B, O]", free=True)
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        return self.x.type.with_shape((*self.x.type.shape[:-1], self.w.type.shape[0]))

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Array:
        """Exact accumulators [*B, O]."""
        zero = int(self.x.type.q.zero_points[0])
        return matmul(x, w, x_zero_point=zero, weight_zero_point=int(self.w.type.q.zero_points[0]), bias=bias)

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        q = (self.x.type.q, self.w.type.q, self.result.type.q)
        return kernels.requantize_fully_connected(self.accumulate(x, w, bias), *q, self.activation)


@op("litert.add")
class Add:
    """ADD with broadcasting."""

    a: Operand = operand("i8q[...]")
    b: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]", free=True)
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        return self.a.type.with_shape(broadcast_shape(self.a.type.shape, self.b.type.shape))

    def evaluate(self, a: Array, b: Array) -> Array:
        return kernels.add(a, b, self.a.type.q, self.b.type.q, self.result.type.q, self.activation)


def same_parameters(x: TensorType, result: TensorType, what: str) -> None:
    """Raise TypeMismatch where an op's result has other quantization parameters than its operand."""
    if x.quant != result.quant:
        raise TypeMismatch(f"{what}: operand {x} and result {result} must have the same quantization parameters")


@op("litert.max_pool_2d")
class MaxPool2d:
    """MAX_POOL_2D: the largest integer of each window; padding never wins."""

    x: Operand = operand("i8q[N, H, W, C]")
    result: Result = result("i8q[N, H', W', C]", free=True)
    kernel: tuple[int, int] = attr()
    stride: tuple[int, int] = attr()
    padding: str = attr(choices=PADDINGS)
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        sizes = window_type(self.x.type, self.kernel, self.stride, (1, 1), self.padding)
        return self.x.type.with_shape((self.x.type.shape[0], *sizes, self.x.type.shape[3]))

    def check(self) -> None:
        same_parameters(self.x.type, self.result.type, "litert.max_pool_2d")

    def pooled(self, x: Array) -> Array:
        """The maxima, before the activation."""
        return max_pool(x, self.kernel, self.stride, pads_of(x, self.kernel, self.stride, (1, 1), self.padding))

    def evaluate(self, x: Array) -> Array:
        return np.clip(self.pooled(x), *kernels.activation_range(self.activation, self.result.type.q))


@op("litert.average_pool_2d")
class AveragePool2d:
    """AVERAGE_POOL_2D: the mean of the integers of each window that lie inside x, half away from zero."""

    x: Operand = operand("i8q[N, H, W, C]")
    result: Result = result("i8q[N, H', W', C]", free=True)
    kernel: tuple[int, int] = attr()
    stride: tuple[int, int] = attr()
    padding: str = attr(choices=PADDINGS)
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        sizes = window_type(self.x.type, self.kernel, self.stride, (1, 1), self.padding)
        return self.x.type.with_shape((self.x.type.shape[0], *sizes, self.x.type.shape[3]))

    def check(self) -> None:
        same_parameters(self.x.type, self.result.type, "litert.average_pool_2d")

    def evaluate(self, x: Array) -> Array:
        pads = pads_of(x, self.kernel, self.stride, (1, 1), self.padding)
        total, count = window_sum(x, self.kernel, self.stride, pads)
        return kernels.average(total, count, self.activation, self.result.type.q)


@op("litert.reshape")
class Reshape:
    """RESHAPE; a size of -1 stands for the batch."""

    x: Operand = operand("i8|f32[...]")
    result: Result = result("i8|f32[...]")
    shape: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        return self.x.type.with_shape(reshaped(self.x.type.shape, self.shape))

    def evaluate(self, x: Array) -> Array:
        return x.reshape(self.shape)


@op("litert.transpose")
class Transpose:
    """TRANSPOSE."""

    x: Operand = operand("i8|f32[...]")
    result: Result = result("i8|f32[...]")
    perm: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        if sorted(self.perm) != list(range(self.x.type.rank)):
            raise TypeMismatch(f"{self.perm} is not an order of the dimensions of {self.x.type}")
        return self.x.type.with_shape([self.x.type.shape[i] for i in self.perm])

    def evaluate(self, x: Array) -> Array:
        return np.ascontiguousarray(x.transpose(self.perm))


@op("litert.concatenation")
class Concatenation:
    """CONCATENATION of values with equal quantization parameters."""

    xs: list[Operand] = operand("i8q[...]", variadic=True)
    result: Result = result("i8q[...]", free=True)
    axis: int = attr()

    def infer(self) -> TensorType:
        return concatenated([x.type for x in self.xs], self.axis)

    def check(self) -> None:
        for x in self.xs:
            same_parameters(x.type, self.result.type, "litert.concatenation")

    def evaluate(self, xs: list[Array]) -> Array:
        return np.concatenate(xs, axis=self.axis)


@op("litert.pad")
class Pad:
    """PAD (with the zero point) or, where `value` is given, PADV2 (with that integer)."""

    x: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]")
    pads: tuple[int, ...] = attr()
    value: int | None = attr(None)

    def infer(self) -> TensorType:
        return self.x.type.with_shape(padded_shape(self.x.type.shape, self.pads))

    def evaluate(self, x: Array) -> Array:
        rank = x.ndim
        value = int(self.x.type.q.zero_points[0]) if self.value is None else self.value
        return np.pad(x, [(self.pads[i], self.pads[rank + i]) for i in range(rank)], constant_values=value)


@op("litert.relu")
class Relu:
    """RELU as an op of its own, which requantizes."""

    x: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return kernels.relu(x, self.x.type.q, self.result.type.q, None)


@op("litert.relu6")
class Relu6:
    """RELU6 as an op of its own, which requantizes."""

    x: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return kernels.relu(x, self.x.type.q, self.result.type.q, 6.0)


@op("litert.quantize")
class Quantize:
    """QUANTIZE: float32 to int8 (half away from zero), or int8 to int8 with other parameters."""

    x: Operand = operand("f32|i8q[...]")
    result: Result = result("i8q[...]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        if self.x.type.quant is not None:
            return kernels.requantize(x, self.x.type.q, self.result.type.q)
        q = self.result.type.q
        return quantize(x, q.scales, q.zero_points, kernels.INT8, None, "half_away").astype(np.int8)


@op("litert.dequantize")
class Dequantize:
    """DEQUANTIZE: (x - zero_point) * scale in float32."""

    x: Operand = operand("i8q[...]")
    result: Result = result("f32[...]")

    def infer(self) -> TensorType:
        return TensorType(self.x.type.shape)

    def evaluate(self, x: Array) -> Array:
        q = self.x.type.q
        centred: Array = x.astype(np.int32) - np.int32(q.zero_points[0])
        return np.asarray(centred.astype(np.float32) * q.scales[0])
