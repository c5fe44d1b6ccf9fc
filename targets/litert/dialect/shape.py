"""Ops that move elements: RESHAPE, TRANSPOSE, CONCATENATION, PAD, PADV2."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.exporters.tflite import Operator
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.shape import concatenated, padded_shape, reshaped
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.dialect.slicing import ANY
from qgraph.targets.litert.dialect.windows import same_parameters
from qgraph.targets.litert.rows import FUSED, row


@op("litert.reshape", moves_data=True)
class Reshape:
    """RESHAPE; a size of -1 stands for the batch."""

    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)
    shape: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        return self.x.type.with_shape(reshaped(self.x.type.shape, self.shape))

    def evaluate(self, x: Array) -> Array:
        return x.reshape(self.shape)


def _read_shape(operator: Operator) -> dict[str, Any]:
    """The shape of old files, which have it among the options alone."""
    given = operator.options.get("new_shape")
    return {"shape": tuple(given)} if len(operator.inputs) < 2 and isinstance(given, list) else {}


row(
    "litert.reshape",
    "RESHAPE",
    constants={"shape": 1},
    write=lambda node: {"new_shape": list(node.attrs["shape"])},
    read=_read_shape,
)


@op("litert.transpose", moves_data=True)
class Transpose:
    """TRANSPOSE."""

    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)
    perm: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        if sorted(self.perm) != list(range(self.x.type.rank)):
            raise TypeMismatch(f"{self.perm} is not an order of the dimensions of {self.x.type}")
        return self.x.type.with_shape([self.x.type.shape[i] for i in self.perm])

    def evaluate(self, x: Array) -> Array:
        return np.ascontiguousarray(x.transpose(self.perm))


row("litert.transpose", "TRANSPOSE", constants={"perm": 1})


@op("litert.concatenation", kind="concat", moves_data=True)
class Concatenation:
    """CONCATENATION of values with equal quantization parameters."""

    xs: list[Operand] = operand(ANY, variadic=True)
    result: Result = result(ANY, free=True)
    axis: int = attr()

    def infer(self) -> TensorType:
        axis = self.axis + self.xs[0].type.rank if self.axis < 0 else self.axis
        return concatenated([x.type for x in self.xs], axis)

    def check(self) -> None:
        for x in self.xs:
            same_parameters(x.type, self.result.type, "litert.concatenation")

    def evaluate(self, xs: list[Array]) -> Array:
        return np.concatenate(xs, axis=self.axis)


row("litert.concatenation", "CONCATENATION", options={"axis": "axis"}, fixed={FUSED: "NONE"})


@op("litert.pad", moves_data=True)
class Pad:
    """PAD (with the zero point) or, where `value` is given, PADV2 (with that integer)."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    pads: tuple[int, ...] = attr()
    value: int | None = attr(None)

    def infer(self) -> TensorType:
        return self.x.type.with_shape(padded_shape(self.x.type.shape, self.pads))

    def evaluate(self, x: Array) -> Array:
        rank = x.ndim
        value = int(self.x.type.q.zero_points[0]) if self.value is None else self.value
        return np.pad(x, [(self.pads[i], self.pads[rank + i]) for i in range(rank)], constant_values=value)


row(
    "litert.pad",
    "PAD",
    constants={"pads": 1, "value": 2},
    variants=("PADV2",),
    choose=lambda node: "PAD" if node.attrs["value"] is None else "PADV2",
)


@on_floats("litert.float_pad", of="litert.pad", exact_on=REFERENCE)
class FloatPad(Pad):
    """PAD on floats."""
