"""Functions of one value: sigmoid, leaky relu and softmax as the runtime has them, any other function by a table."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.exporters.onnx_forms import MICROSOFT, NodeForm, X, Y
from qgraph.ir import Array, Operand, QuantParams, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import NUMPY_DTYPE, integer_range
from qgraph.targets.onnxruntime import float_kernels, kernels, read_nodes
from qgraph.targets.onnxruntime.dialect import same_dtype


def by_table(x: Array, table: Array) -> Array:
    """The element of `table`, [256] in the order of the codes' bits, for each code of x."""
    return table[x.view(np.uint8)]


@op("ort.QLinearSigmoid", elementwise=True, kind="sigmoid")
class QLinearSigmoid:
    """quantize(sigmoid(dequantize(x))), the sigmoid as `float_kernels.logistic` has it."""

    onnx = NodeForm((X, Y), "Sigmoid", domain=MICROSOFT)
    x: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def check(self) -> None:
        same_dtype(self.x.type, self.result.type, "ort.QLinearSigmoid")

    def evaluate(self, x: Array) -> Array:
        real = kernels.dequantize(kernels.codes(self.x.type.dtype), self.x.type.q)
        table = kernels.quantize(float_kernels.logistic(real), self.result.type.q, self.result.type.dtype)
        return by_table(x, table)


@op("ort.QLinearLeakyRelu", elementwise=True, kind="activation")
class QLinearLeakyRelu:
    """quantize(v where v >= 0, else v * alpha), v = dequantize(x)."""

    onnx = NodeForm((X, Y), "LeakyRelu", domain=MICROSOFT)
    x: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]", free=True)
    alpha: float = attr(0.01)

    def infer(self) -> TensorType:
        return self.x.type

    def check(self) -> None:
        same_dtype(self.x.type, self.result.type, "ort.QLinearLeakyRelu")

    def evaluate(self, x: Array) -> Array:
        real = kernels.dequantize(kernels.codes(self.x.type.dtype), self.x.type.q)
        with np.errstate(over="ignore", under="ignore"):
            real = np.where(real >= 0, real, np.float32(self.alpha) * real)
        return by_table(x, kernels.quantize(real, self.result.type.q, self.result.type.dtype))


@op("ort.QLinearSoftmax", kind="softmax")
class QLinearSoftmax:
    """Softmax over `axis`: `softmax`."""

    onnx = NodeForm((X, Y), "Softmax", {"opset": 13}, domain=MICROSOFT, read=read_nodes.softmax)
    x: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]", free=True)
    axis: int = attr()

    def infer(self) -> TensorType:
        if not 0 <= self.axis < self.x.type.rank:
            raise TypeMismatch(f"ort.QLinearSoftmax: axis {self.axis} is not a dimension of {self.x.type}")
        return self.x.type

    def check(self) -> None:
        same_dtype(self.x.type, self.result.type, "ort.QLinearSoftmax")

    def evaluate(self, x: Array) -> Array:
        last = np.moveaxis(x, self.axis, -1)
        made = softmax(last, self.x.type.q, self.result.type.q, self.result.type.dtype)
        return np.moveaxis(made, -1, self.axis)


def softmax(x: Array, q: QuantParams, result: QuantParams, dtype: str) -> Array:
    """clamp(rint(e * steps / total) + zero_point) over the last axis, product and quotient in float64.

    Source: qlinear_softmax.cc; measured, on ties too.
    """
    e, total, steps = exponentials(x, q, result)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.rint(e.astype(np.float64) * steps / total) + int(result.zero_points[0])
    low, high = integer_range(dtype)
    return np.where(np.isnan(value), low, np.clip(value, low, high)).astype(NUMPY_DTYPE[dtype])


def exponentials(x: Array, q: QuantParams, result: QuantParams) -> tuple[Array, Array, np.float32]:
    """e = exp((x - max + offset) * scale) from a table of float32, its float32 sum, one after another, along the last
    axis, and floor(1 / result_scale); the offset is such that no sum is infinite."""
    table, steps = exponential_table(q, result, x.shape[-1])
    with np.errstate(over="ignore", under="ignore"):
        wide = x.astype(np.int64)
        e = table[255 - (wide.max(-1, keepdims=True) - wide)]
        return e, np.add.accumulate(e, axis=-1)[..., -1:], steps


def exponential_table(q: QuantParams, result: QuantParams, count: int) -> tuple[Array, np.float32]:
    """e of the largest of `count` codes minus 255, ..., 1, 0, in float32, and floor(1 / result_scale)."""
    scale = float(q.scale[0])
    room = float(np.log(np.float32(np.finfo(np.float32).max) / np.float32(count))) - 5
    with np.errstate(over="ignore", under="ignore"):
        table = np.exp((np.arange(256) - 255.0 + max(0.0, room) / scale) * scale).astype(np.float32)
        return table, np.float32(np.floor(np.float32(1) / result.scales[0]))


@op("ort.Lookup", elementwise=True, kind="lookup")
class Lookup:
    """The element of `table` for each code of x, in the order of the codes' bits.

    In the file: Cast and Gather. `function`, on its `arguments` (attributes as JSON), is what the table was made of.
    """

    x: Operand = operand("u8q|i8q[...]")
    table: Operand = operand("u8q|i8q[T]", role="parameter")
    result: Result = result("u8q|i8q[...]")
    function: str = attr("")
    arguments: str = attr("{}")

    def infer(self) -> TensorType:
        if self.table.type.shape != (256,) or self.table.type.q.axis is not None:
            raise TypeMismatch(f"ort.Lookup: {self.table.type} is not one element for each of 256 codes")
        return self.table.type.with_shape(self.x.type.shape)

    def evaluate(self, x: Array, table: Array) -> Array:
        return by_table(x, table)
