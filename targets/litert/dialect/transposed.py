"""TRANSPOSE_CONV."""

from __future__ import annotations

from qgraph.arith.accumulate import transpose_convolve
from qgraph.arith.exactness import Accumulator, AccumulatorType
from qgraph.errors import InputError, TypeMismatch
from qgraph.exporters.tflite import Operator
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.targets.litert.dialect import layers
from qgraph.targets.litert.dialect.floats import on_floats
from qgraph.targets.litert.dialect.layers import (
    BIAS,
    BIAS_TYPES,
    check_layer,
    read_bias_type,
    weight_zero_point,
    written_bias_type,
)
from qgraph.targets.litert.dialect.windows import ACTIVATIONS, PADDINGS, STRIDED
from qgraph.targets.litert.padding import output_size, same_pads
from qgraph.targets.litert.rows import TypeOf, row


@op("litert.transpose_conv", kind="conv")
class TransposeConv:
    """TRANSPOSE_CONV: each element of x [N, H, W, C] adds its weight [O, Kh, Kw, C] to a window of the result.

    `output_shape` is that of the result; the window of x[i] starts at i * stride - pad, where the pad is that of a
    convolution of the result with this padding. What lies outside is dropped; what no window reaches is the bias.
    Files may give the shape as an input of the graph, which is the operand `shape`: it must be `output_shape`; or
    compute it from other shapes (`shape_is_computed`): a file that is written does so where the batch is open, which
    `output_shape` has as -1, and else states it.
    """

    w: Operand = operand("i8q|u8q[O, Kh, Kw, C]", role="weight")
    x: Operand = operand("i8q|u8q|i16q[N, H, W, C]")
    bias: Operand | None = operand(f"{BIAS}[O]", optional=True, role="bias")
    shape: Operand | None = operand("i32[4]", optional=True, role="indices")
    result: Result = result("i8q|u8q|i16q[N, H', W', O]", free=True)
    output_shape: tuple[int, int, int, int] = attr()
    stride: tuple[int, int] = attr()
    padding: str = attr(choices=PADDINGS)
    activation: str = attr("NONE", choices=ACTIVATIONS)
    quantized_bias_type: str | None = attr(None, choices=BIAS_TYPES)
    shape_is_computed: bool = attr(False)

    def infer(self) -> TensorType:
        own, (batch, *spatial, channels) = self.x.type.shape[0], self.output_shape
        whole = batch == own or (batch == -1 and self.shape_is_computed)
        if not whole or channels != self.w.type.shape[0] or min(spatial) < 1:
            raise TypeMismatch(f"the output_shape {self.output_shape} does not fit {self.x.type} and {self.w.type}")
        return self.x.type.with_shape((own, *self.output_shape[1:]))

    def check(self) -> None:
        check_layer(self, "litert.transpose_conv")

    def pads(self) -> tuple[int, int]:
        """How far the first window reaches out of the result, along each axis."""
        if self.padding == "VALID":
            return (0, 0)
        kernel = tuple(int(size) for size in self.w.type.shape[1:3])
        top, left, *_ = same_pads(self.output_shape[1:3], kernel, self.stride, (1, 1))
        return top, left

    def covers(self) -> bool:
        """Whether a convolution of the result with these options gives the sizes of x."""
        sizes = zip(self.output_shape[1:3], self.w.type.shape[1:3], self.stride, self.x.type.shape[1:3], strict=True)
        return all(output_size(out, int(k), s, 1, self.padding) == size for out, k, s, size in sizes)

    def accumulator(self) -> AccumulatorType:
        return layers.accumulator(self)

    def accumulate(self, w: Array, x: Array, bias: Array | None, shape: Array | None) -> Accumulator:
        """Exact accumulators of the shape `output_shape`; raises InputError where `shape` is another one."""
        if shape is not None and tuple(shape.tolist()) != self.output_shape:
            raise InputError(f"the output shape {shape.tolist()} is not {list(self.output_shape)}, that of the file")
        return transpose_convolve(
            x,
            w,
            stride=self.stride,
            pads=self.pads(),
            sizes=self.output_shape[1:3],
            x_zero_point=self.x.type.q.zero_point[0],
            weight_zero_point=weight_zero_point(self.w.type),
            bias=bias,
        )

    def macs(self) -> int:
        return element_count(self.x.type.shape) * element_count(self.w.type.shape[:3])

    def evaluate(self, w: Array, x: Array, bias: Array | None, shape: Array | None) -> Array:
        return layers.transposed_convolution(self, self.accumulate(w, x, bias, shape))


def _stated_shape(operator: Operator, type_of: TypeOf) -> dict[str, object]:
    """The shape of the result, for a file where the one that the operator reads is no constant."""
    return {"output_shape": type_of(operator.outputs[0]).shape}


row(
    "litert.transpose_conv",
    "TRANSPOSE_CONV",
    any_axis=True,
    places=(1, 2, 3, 0),
    constants={"output_shape": 0},
    computed="shape_is_computed",
    read_types=_stated_shape,
    options=STRIDED,
    write=written_bias_type,
    read=read_bias_type,
)


@on_floats("litert.float_transpose_conv", of="litert.transpose_conv")
class FloatTransposeConv(TransposeConv):
    """TRANSPOSE_CONV on floats."""
