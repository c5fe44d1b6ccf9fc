"""Ops that move integers."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.exporters.onnx_forms import ALONE, MICROSOFT, B, NodeForm, Slot, Y
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.ops.nn.shape import padded_shape, reshaped
from qgraph.targets.onnxruntime import kernels, read_nodes
from qgraph.targets.onnxruntime.dialect import check_code, same_dtype


@op("ort.Reshape", kind="reshape", moves_data=True)
class Reshape:
    """x with another shape; a size of -1 stands for the batch."""

    onnx = NodeForm((ALONE, Slot("integers", attr="shape")), "Reshape")
    x: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]")
    shape: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        return self.x.type.with_shape(reshaped(self.x.type.shape, self.shape))

    def evaluate(self, x: Array) -> Array:
        return x.reshape(self.shape)


@op("ort.Transpose", kind="transpose", moves_data=True)
class Transpose:
    """x with its dimensions in the order `perm`."""

    onnx = NodeForm((ALONE,), "Transpose")
    x: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]")
    perm: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        if sorted(self.perm) != list(range(self.x.type.rank)):
            raise TypeMismatch(f"{self.perm} is not an order of the dimensions of {self.x.type}")
        return self.x.type.with_shape([self.x.type.shape[i] for i in self.perm])

    def evaluate(self, x: Array) -> Array:
        return x.transpose(self.perm)


@op("ort.Pad", kind="pad", moves_data=True)
class Pad:
    """x with the integer `value` around it; `pads` holds the widths before each dimension, then after each."""

    onnx = NodeForm((ALONE, Slot("integers", attr="pads"), Slot("code", attr="value")), "Pad", read=read_nodes.pad)
    x: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]")
    pads: tuple[int, ...] = attr()
    value: int = attr()

    def infer(self) -> TensorType:
        check_code(self.value, self.x.type, "ort.Pad: value")
        return self.x.type.with_shape(padded_shape(self.x.type.shape, self.pads))

    def evaluate(self, x: Array) -> Array:
        widths = [(self.pads[i], self.pads[x.ndim + i]) for i in range(x.ndim)]
        return np.pad(x, widths, constant_values=self.value)


@op("ort.Slice", kind="slice", moves_data=True)
class Slice:
    """The elements from `starts` to before `ends`, by `steps`, along each of `axes`."""

    onnx = NodeForm((ALONE, *(Slot("integers", attr=name) for name in ("starts", "ends", "axes", "steps"))), "Slice")
    x: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]")
    starts: tuple[int, ...] = attr()
    ends: tuple[int, ...] = attr()
    axes: tuple[int, ...] = attr()
    steps: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        shape = list(self.x.type.shape)
        for start, end, axis, step in zip(self.starts, self.ends, self.axes, self.steps, strict=True):
            size = shape[axis] if 0 <= axis < len(shape) else None
            if not isinstance(size, int) or not 0 <= start < end <= size or step < 1:
                raise TypeMismatch(f"ort.Slice: {start} to {end} by {step} is no part of axis {axis} of {self.x.type}")
            shape[axis] = len(range(start, end, step))
        return self.x.type.with_shape(shape)

    def evaluate(self, x: Array) -> Array:
        place = [slice(None)] * x.ndim
        for start, end, axis, step in zip(self.starts, self.ends, self.axes, self.steps, strict=True):
            place[axis] = slice(start, end, step)
        return x[tuple(place)]


@op("ort.QLinearWhere", kind="where")
class QLinearWhere:
    """a where the condition holds, else b, with broadcasting; each requantized where its parameters are not the
    result's."""

    onnx = NodeForm((ALONE, B, Slot("quantized", 2), Y), domain=MICROSOFT)
    condition: Operand = operand("bool[...]", role="indices")
    a: Operand = operand("u8q|i8q[...]")
    b: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]", free=True)

    def infer(self) -> TensorType:
        shape = broadcast_shape(self.a.type.shape, self.b.type.shape)
        return self.a.type.with_shape(broadcast_shape(self.condition.type.shape, shape))

    def check(self) -> None:
        same_dtype(self.a.type, self.result.type, "ort.QLinearWhere")
        same_dtype(self.b.type, self.result.type, "ort.QLinearWhere")

    def evaluate(self, condition: Array, a: Array, b: Array) -> Array:
        q = self.result.type.q
        pair = (kernels.requantize(each, value.type.q, q) for each, value in ((a, self.a), (b, self.b)))
        return np.where(condition, *pair)
