"""Products of integers whose scales are computed while the model runs, or that end in floats (dynamic quantization).

Codes without a scale of their own stand in plain u8 and i8; zero points and scales are operands.
"""

from __future__ import annotations

import numpy as np

from qgraph.arith.accumulate import batch_matmul, convolve
from qgraph.arith.exactness import as_int32
from qgraph.errors import TypeMismatch
from qgraph.exporters.onnx_forms import ALONE, MICROSOFT, NodeForm, Slot
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.ops.nn.linear import check_groups, window_shape
from qgraph.targets.onnxruntime import float_kernels, read_nodes

PLAIN = tuple(Slot("plain", index) for index in range(12))
f32 = np.float32


def dynamically_quantized(x: Array) -> tuple[Array, np.float32, int]:
    """Codes, scale and zero point of x in u8, by its least and largest value and 0; all zeros: a scale of 1.

    Source: DynamicQuantizeLinear, GetQuantizationParameter.
    """
    low, high = min(f32(x.min(initial=0)), f32(0)), max(f32(x.max(initial=0)), f32(0))
    scale = f32(1) if low == high else f32(f32(high - low) / f32(255))
    zero = int(np.rint(np.clip(f32(0) - f32(low / scale), f32(0), f32(255))))
    return np.clip(np.rint(x / scale) + f32(zero), 0, 255).astype(np.uint8), scale, zero


def product(a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
    """(a - a_zero) @ (b - b_zero) in int32, where it wraps; the zero point of b may be one for each column."""
    zero = 0 if a_zero is None else int(np.reshape(a_zero, -1)[0])
    zeros = 0 if b_zero is None else b_zero if b_zero.size > 1 else int(b_zero.reshape(-1)[0])
    return as_int32(batch_matmul(a, b, x_zero_point=zero, y_zero_point=zeros))


def matrix_shape(a: TensorType, b: TensorType) -> tuple[int | str, ...]:
    """The shape of a product of matrices."""
    (*batch, rows, _), (*other, _, columns) = a.shape, b.shape
    return (*broadcast_shape(tuple(batch), tuple(other)), rows, columns)


def one_or_columns(value: TensorType, b: TensorType, what: str) -> None:
    """Raise TypeMismatch for what is neither one number nor one for each column of b."""
    if element_count(value.shape) not in (1, b.shape[-1]):
        raise TypeMismatch(f"{what} of {value} is neither one number nor one for each column of {b}")


@op("ort.DynamicQuantizeLinear", kind="quantize")
class DynamicQuantizeLinear:
    """u8 codes of x on a grid that covers its values and 0, the grid's scale, and its zero point."""

    onnx = NodeForm((ALONE,))
    x: Operand = operand("f32[...]")
    y: Result = result("u8[...]")
    scale: Result = result("f32[]")
    zero_point: Result = result("u8[]")

    def infer(self) -> tuple[TensorType, ...]:
        return TensorType(self.x.type.shape, "u8"), TensorType(()), TensorType((), "u8")

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        codes, scale, zero = dynamically_quantized(x)
        return codes, np.asarray(scale), np.asarray(zero, np.uint8)


@op("ort.MatMulInteger", kind="matmul", family="weights")
class MatMulInteger:
    """(a - a_zero_point) @ (b - b_zero_point), exact in int32."""

    onnx = NodeForm(PLAIN[:4], read=read_nodes.matmul)
    a: Operand = operand("u8|i8[*A, R, K]")
    b: Operand = operand("u8|i8[*B, K, C]")
    a_zero_point: Operand | None = operand("u8|i8[...]", optional=True, role="parameter")
    b_zero_point: Operand | None = operand("u8|i8[...]", optional=True, role="parameter")
    result: Result = result("i32[*D, R, C]")

    def infer(self) -> TensorType:
        if self.a_zero_point is not None and element_count(self.a_zero_point.type.shape) != 1:
            raise TypeMismatch("ort.MatMulInteger: one zero point for each row is not supported")
        if self.b_zero_point is not None:
            one_or_columns(self.b_zero_point.type, self.b.type, "ort.MatMulInteger: the zero point")
        return TensorType(matrix_shape(self.a.type, self.b.type), "i32")

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.a.type.shape[-1:])

    def evaluate(self, a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
        return product(a, b, a_zero, b_zero)


@op("ort.ConvInteger", kind="conv")
class ConvInteger:
    """The convolution of x - x_zero_point with w - w_zero_point, exact in int32; padding is x's zero point."""

    onnx = NodeForm(PLAIN[:4], window=True)
    x: Operand = operand("u8|i8[N, C, *S]")
    w: Operand = operand("u8|i8[O, I, *K]")
    x_zero_point: Operand | None = operand("u8|i8[...]", optional=True, role="parameter")
    w_zero_point: Operand | None = operand("u8|i8[...]", optional=True, role="parameter")
    result: Result = result("i32[N, O, *S']")
    strides: tuple[int, ...] = attr()
    pads: tuple[int, ...] = attr()
    dilations: tuple[int, ...] = attr()
    group: int = attr(1)

    def infer(self) -> TensorType:
        batch, channels, *spatial = self.x.type.shape
        out, per_group, *kernel = self.w.type.shape
        check_groups(channels, out, per_group, self.group)
        shape = window_shape(tuple(spatial), tuple(kernel), self.strides, self.pads, self.dilations)
        return TensorType((batch, out, *shape), "i32")

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(self, x: Array, w: Array, x_zero: Array | None, w_zero: Array | None) -> Array:
        acc = convolve(
            np.moveaxis(x, 1, -1),
            np.moveaxis(w, 1, -1),
            stride=self.strides,
            pads=self.pads,
            dilation=self.dilations,
            groups=self.group,
            x_zero_point=0 if x_zero is None else int(x_zero.reshape(-1)[0]),
            weight_zero_point=0 if w_zero is None else w_zero.reshape(-1).astype(np.int64),
        )
        return np.moveaxis(as_int32(acc), -1, 1)


@op("ort.MatMulIntegerToFloat", kind="matmul", family="weights")
class MatMulIntegerToFloat:
    """acc * (a_scale * b_scale) + bias in float32, not fused; b_scale and b_zero_point may be one for each column."""

    onnx = NodeForm(PLAIN[:7], domain=MICROSOFT)
    a: Operand = operand("u8|i8[*A, R, K]")
    b: Operand = operand("u8|i8[*B, K, C]")
    a_scale: Operand = operand("f32[...]", role="parameter")
    b_scale: Operand = operand("f32[...]", role="parameter")
    a_zero_point: Operand | None = operand("u8|i8[...]", optional=True, role="parameter")
    b_zero_point: Operand | None = operand("u8|i8[...]", optional=True, role="parameter")
    bias: Operand | None = operand("f32[C]", optional=True, role="bias")
    result: Result = result("f32[*D, R, C]")

    def infer(self) -> TensorType:
        one_or_columns(self.b_scale.type, self.b.type, "ort.MatMulIntegerToFloat: the scale")
        return TensorType(matrix_shape(self.a.type, self.b.type))

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.a.type.shape[-1:])

    def evaluate(self, a: Array, b: Array, a_scale: Array, b_scale: Array, *rest: Array | None) -> Array:
        a_zero, b_zero, bias = rest
        y = product(a, b, a_zero, b_zero).astype(f32) * (a_scale.reshape(-1)[:1] * b_scale.reshape(-1))
        return np.asarray(y if bias is None else y + bias)


@op("ort.DynamicQuantizeMatMul", kind="matmul", family="weights")
class DynamicQuantizeMatMul:
    """`ort.MatMulIntegerToFloat` of x, dynamically quantized as a whole."""

    onnx = NodeForm(PLAIN[:5], domain=MICROSOFT)
    x: Operand = operand("f32[*A, R, K]")
    b: Operand = operand("u8|i8[*B, K, C]")
    b_scale: Operand = operand("f32[...]", role="parameter")
    b_zero_point: Operand | None = operand("u8|i8[...]", optional=True, role="parameter")
    bias: Operand | None = operand("f32[C]", optional=True, role="bias")
    result: Result = result("f32[*D, R, C]")

    def infer(self) -> TensorType:
        one_or_columns(self.b_scale.type, self.b.type, "ort.DynamicQuantizeMatMul: the scale")
        return TensorType(matrix_shape(self.x.type, self.b.type))

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.x.type.shape[-1:])

    def evaluate(self, x: Array, b: Array, b_scale: Array, b_zero: Array | None, bias: Array | None) -> Array:
        codes, scale, zero = dynamically_quantized(x)
        y = product(codes, b, np.asarray(zero), b_zero).astype(f32) * (scale * b_scale.reshape(-1))
        return np.asarray(y if bias is None else y + bias)


@op("ort.DynamicQuantizeLSTM", kind="lstm", family="weights")
class DynamicQuantizeLSTM:
    """An LSTM over x [steps, batch, I]: x is dynamically quantized as a whole, h in each step over the batch.

    State and gates (i, o, f, c) are float32. As with one thread of the runtime: with more, each quantizes its own part
    of the batch. Results: y [steps, directions, batch, H], and the last h and c.
    """

    onnx = NodeForm(PLAIN, fixed={"input_forget": 0}, domain=MICROSOFT)
    x: Operand = operand("f32[T, N, I]")
    w: Operand = operand("u8|i8[D, I, G]")
    r: Operand = operand("u8|i8[D, H, G]")
    bias: Operand | None = operand("f32[D, B]", optional=True, role="bias")
    lengths: Operand | None = operand("i32[N]", optional=True, role="indices")
    h: Operand | None = operand("f32[D, N, H]", optional=True)
    c: Operand | None = operand("f32[D, N, H]", optional=True)
    peepholes: Operand | None = operand("f32[...]", optional=True)
    w_scale: Operand = operand("f32[...]", role="parameter")
    w_zero_point: Operand = operand("u8|i8[...]", role="parameter")
    r_scale: Operand = operand("f32[...]", role="parameter")
    r_zero_point: Operand = operand("u8|i8[...]", role="parameter")
    y: Result = result("f32[T, D, N, H]")
    y_h: Result = result("f32[D, N, H]")
    y_c: Result = result("f32[D, N, H]")
    hidden_size: int = attr()
    direction: str = attr("forward", choices=("forward",))

    def infer(self) -> tuple[TensorType, ...]:
        if self.lengths is not None or self.peepholes is not None:
            raise TypeMismatch("ort.DynamicQuantizeLSTM: lengths and peepholes are not supported")
        (steps, batch, _), (directions, hidden, gates) = self.x.type.shape, self.r.type.shape
        if gates != 4 * self.hidden_size or hidden != self.hidden_size or directions != 1:
            raise TypeMismatch(f"ort.DynamicQuantizeLSTM: {self.r.type} is no recurrence of size {self.hidden_size}")
        last = TensorType((directions, batch, hidden))
        return TensorType((steps, directions, batch, hidden)), last, last

    def evaluate(self, x: Array, w: Array, r: Array, bias: Array | None, *rest: Array | None) -> tuple[Array, ...]:
        _, h, c, _, w_scale, w_zero, r_scale, r_zero = rest
        assert w_scale is not None
        assert r_scale is not None
        size, batch = self.hidden_size, x.shape[1]
        both = f32(0) if bias is None else bias[0, : 4 * size] + bias[0, 4 * size :]
        codes, scale, zero = dynamically_quantized(x)
        gates = product(codes, w[0], np.asarray(zero), w_zero).astype(f32) * (scale * w_scale.reshape(-1))
        state, cell = (np.zeros((batch, size), f32) if each is None else each[0] for each in (h, c))
        states = []
        for gate in gates:
            codes, scale, zero = dynamically_quantized(state)
            again = product(codes, r[0], np.asarray(zero), r_zero).astype(f32) * (scale * r_scale.reshape(-1))
            i, o, f, u = np.split(gate + again + both, 4, 1)
            logistic, tanh = float_kernels.logistic, float_kernels.tanh
            cell = cell * logistic(f) + logistic(i) * tanh(u)
            state = tanh(cell) * logistic(o)
            states.append(state)
        return np.stack(states)[:, None], state[None], cell[None]
