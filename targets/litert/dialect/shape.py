"""Ops that move elements: RESHAPE, TRANSPOSE, CONCATENATION, PAD, PADV2."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.arith.rounding import round_half_away
from qgraph.errors import FileError, TypeMismatch
from qgraph.exporters.tflite import Operator
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.shape import concatenated, padded_shape, reshaped
from qgraph.targets.litert.dialect.elements import check_elements, one_scale
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.dialect.parameters import scale, zero_point
from qgraph.targets.litert.dialect.slicing import ANY
from qgraph.targets.litert.dialect.windows import same_parameters
from qgraph.targets.litert.rows import FUSED, TypeOf, row


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
    """CONCATENATION of values with equal quantization parameters; uint8 ones with others are requantized.

    With 16 bits the integers are joined whatever their scales are, as the runtimes do.
    """

    xs: list[Operand] = operand(ANY, variadic=True)
    result: Result = result(ANY, free=True)
    axis: int = attr()

    def infer(self) -> TensorType:
        axis = self.axis + self.xs[0].type.rank if self.axis < 0 else self.axis
        return concatenated([x.type for x in self.xs], axis)

    def check(self) -> None:
        types = [*(x.type for x in self.xs), self.result.type]
        if self.result.type.quant is not None and self.result.type.dtype in ("u8", "i16"):
            check_elements("litert.concatenation", *types)
            return
        for type in types:
            same_parameters(type, self.result.type, "litert.concatenation")

    def evaluate(self, xs: list[Array]) -> Array:
        made = self.result.type
        if made.dtype == "u8" and made.quant is not None:
            xs = [joined(data, x.type, made) for data, x in zip(xs, self.xs, strict=True)]
        return np.concatenate(xs, axis=self.axis)


def joined(x: Array, type: TensorType, result: TensorType) -> Array:
    """A uint8 operand with the parameters of the result: `round_half_away(x * s + b) + zero_point` in float32.

    s = x_scale * (1 / result_scale), b = -x_zero_point * s.
    Source: reference/concatenation.h, ConcatenationWithScaling.
    """
    if type.quant == result.quant:
        return x
    factor = scale(type) * (np.float32(1) / scale(result))
    steps = x.astype(np.float32) * factor + np.float32(-zero_point(type)) * factor
    codes = round_half_away(steps) + np.float64(zero_point(result))
    return np.clip(codes, 0, 255).astype(np.uint8)


row("litert.concatenation", "CONCATENATION", options={"axis": "axis"}, fixed={FUSED: "NONE"})


@op("litert.pad", moves_data=True)
class Pad:
    """PAD (with the zero point of the result) or, where `value` is given, PADV2 (with that integer)."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    pads: tuple[int, ...] = attr()
    value: int | None = attr(None)

    def infer(self) -> TensorType:
        return self.x.type.with_shape(padded_shape(self.x.type.shape, self.pads))

    def check(self) -> None:
        one_scale("litert.pad", self.x.type, self.result.type)

    def evaluate(self, x: Array) -> Array:
        rank = x.ndim
        value = int(self.result.type.q.zero_points[0]) if self.value is None else self.value
        return np.pad(x, [(self.pads[i], self.pads[rank + i]) for i in range(rank)], constant_values=value)


def _same_as_result(operator: Operator, type_of: TypeOf) -> dict[str, Any]:
    """No attribute; raises FileError for a padding constant whose parameters are not those of the result.

    Source: pad.cc of LiteRT and of TFLite Micro, which refuse it as they run.
    """
    constant, made = (type_of(index) for index in (*operator.inputs[2:3], operator.outputs[0]))
    if constant.quant != made.quant:
        raise FileError(f"PADV2 pads {made} with a constant of {constant}: they must have the same parameters")
    return {}


row(
    "litert.pad",
    "PAD",
    read_types=lambda operator, type_of: _same_as_result(operator, type_of) if operator.inputs[2:3] else {},
    constants={"pads": 1, "value": 2},
    variants=("PADV2",),
    choose=lambda node: "PAD" if node.attrs["value"] is None else "PADV2",
)


@on_floats("litert.float_pad", of="litert.pad", exact_on=REFERENCE)
class FloatPad(Pad):
    """PAD (with zeros) or PADV2 (with `value`) on floats."""

    value: float | None = attr(None)  # type: ignore[assignment]  # of the type that is padded

    def evaluate(self, x: Array) -> Array:
        widths = [(self.pads[i], self.pads[x.ndim + i]) for i in range(x.ndim)]
        return np.pad(x, widths, constant_values=self.value or 0.0)
