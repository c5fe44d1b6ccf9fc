"""CONV_2D and DEPTHWISE_CONV_2D."""

from __future__ import annotations

from typing import Any

from qgraph.arith.accumulate import convolve, depthwise_convolve
from qgraph.arith.exactness import Accumulator, AccumulatorType
from qgraph.arith.kept import kept_with
from qgraph.arith.prepared_weight import PreparedWeight, prepare_depthwise
from qgraph.errors import FileError, TypeMismatch
from qgraph.exporters.tflite import Operator
from qgraph.ir import Array, Node, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.targets.litert.dialect import layers
from qgraph.targets.litert.dialect.floats import on_floats
from qgraph.targets.litert.dialect.layers import (
    ACTIVATION,
    BIAS,
    BIAS_TYPES,
    WEIGHT,
    check_layer,
    read_bias_type,
    weight_zero_point,
    written_bias_type,
)
from qgraph.targets.litert.dialect.windows import ACTIVATIONS, DILATED, PADDINGS, pads_of, window_type
from qgraph.targets.litert.rows import TypeOf, row


@op("litert.conv_2d", kind="conv")
class Conv2d:
    """CONV_2D: convolution, weight [O, Kh, Kw, C / groups] per tensor or per output channel.

    LiteRT refuses the op without a bias.
    """

    x: Operand = operand(f"{ACTIVATION}[N, H, W, C]")
    w: Operand = operand(f"{WEIGHT}[O, Kh, Kw, I]", role="weight")
    bias: Operand | None = operand(f"{BIAS}[O]", optional=True, role="bias")
    result: Result = result(f"{ACTIVATION}[N, H', W', O]", free=True)
    stride: tuple[int, int] = attr()
    padding: str = attr(choices=PADDINGS)
    dilation: tuple[int, int] = attr((1, 1))
    activation: str = attr("NONE", choices=ACTIVATIONS)
    quantized_bias_type: str | None = attr(None, choices=BIAS_TYPES)

    def infer(self) -> TensorType:
        out, *kernel, per_group = self.w.type.shape
        channels = self.x.type.shape[3]
        if not isinstance(channels, int) or not isinstance(per_group, int) or channels % per_group:
            raise TypeMismatch(f"{channels} channels are not a multiple of the weight's {per_group}")
        if not isinstance(out, int) or out % (channels // per_group):
            raise TypeMismatch(f"{out} output channels are not a multiple of {channels // per_group} groups")
        sizes = window_type(self.x.type, tuple(kernel), self.stride, self.dilation, self.padding)
        return self.x.type.with_shape((self.x.type.shape[0], *sizes, out))

    def check(self) -> None:
        check_layer(self, "litert.conv_2d")

    def accumulator(self) -> AccumulatorType:
        return layers.accumulator(self)

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact accumulators [N, H', W', O]."""
        return convolve(
            x,
            w,
            stride=self.stride,
            pads=pads_of(x, w.shape[1:3], self.stride, self.dilation, self.padding),
            dilation=self.dilation,
            groups=x.shape[3] // w.shape[3],
            x_zero_point=self.x.type.q.zero_point[0],
            weight_zero_point=weight_zero_point(self.w.type),
            bias=bias,
        )

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        return layers.convolution(self, self.accumulate(x, w, bias))


row("litert.conv_2d", "CONV_2D", options=DILATED, write=written_bias_type, read=read_bias_type, any_axis=True)


@op("litert.depthwise_conv_2d", kind="conv")
class DepthwiseConv2d:
    """DEPTHWISE_CONV_2D: weight [1, Kh, Kw, C * M]; output channel c * M + m reads input channel c.

    Without a bias LiteRT's optimized kernel crashes.
    """

    x: Operand = operand(f"{ACTIVATION}[N, H, W, C]")
    w: Operand = operand(f"{WEIGHT}[1, Kh, Kw, O]", role="weight")
    bias: Operand | None = operand(f"{BIAS}[O]", optional=True, role="bias")
    result: Result = result(f"{ACTIVATION}[N, H', W', O]", free=True)
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

    def check(self) -> None:
        check_layer(self, "litert.depthwise_conv_2d")
        if (self.x.type.dtype, self.w.type.dtype) == ("i16", "i4"):
            raise TypeMismatch("litert.depthwise_conv_2d: no runtime unpacks int4 weights for 16-bit activations")

    def accumulator(self) -> AccumulatorType:
        return layers.accumulator(self)

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact accumulators [N, H', W', C * M]."""
        _, height, width, _ = w.shape
        return depthwise_convolve(
            x,
            _taps(w, x.shape[3], weight_zero_point(self.w.type)),
            stride=self.stride,
            pads=pads_of(x, (height, width), self.stride, self.dilation, self.padding),
            dilation=self.dilation,
            x_zero_point=self.x.type.q.zero_point[0],
            bias=bias,
        )

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[:3])

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        return layers.depthwise_convolution(self, self.accumulate(x, w, bias))


@kept_with(1)
def _taps(w: Array, channels: int, zero_point: int) -> PreparedWeight:
    """The weight [1, Kh, Kw, C * M], ready to be multiplied."""
    return prepare_depthwise(w.reshape(*w.shape[1:3], channels, -1), zero_point)


def _multiplier(node: Node) -> dict[str, Any]:
    out, channels = node.operand(0).type.shape[3], node.operand(1).type.shape[3]
    return {"depth_multiplier": int(channels) // int(out)}


def _check_multiplier(operator: Operator, type_of: TypeOf) -> dict[str, Any]:
    """No attribute; raises FileError for a `depth_multiplier` that is not that of the shapes: kernels go by it."""
    channels, out = (type_of(index).shape[3] for index in operator.inputs[:2])
    given = int(str(operator.options["depth_multiplier"]))
    if given * int(channels) != int(out):
        raise FileError(f"DEPTHWISE_CONV_2D from {channels} to {out} channels has a depth_multiplier of {given}")
    return {}


row(
    "litert.depthwise_conv_2d",
    "DEPTHWISE_CONV_2D",
    options=DILATED,
    any_axis=True,
    write=_multiplier,
    read_types=_check_multiplier,
)


@on_floats("litert.float_conv_2d", of="litert.conv_2d")
class FloatConv2d(Conv2d):
    """CONV_2D on floats."""


@on_floats("litert.float_depthwise_conv_2d", of="litert.depthwise_conv_2d")
class FloatDepthwiseConv2d(DepthwiseConv2d):
    """DEPTHWISE_CONV_2D on floats."""
