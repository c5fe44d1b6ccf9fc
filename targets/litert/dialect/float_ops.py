"""Ops on floats: the operators of a float file, and of the float parts of files that are integer elsewhere.

`litert.float_conv_2d` has the attributes and the shapes of `litert.conv_2d`, on f32; weights may be integers with a
scale (hybrid files). Results are float32 in NumPy's order of additions: equal to a runtime's up to rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qgraph.arith.c_library import expf, logf, tanhf
from qgraph.ir import Array, Node, Operand, Result, TensorType, attr, op, op_def, operand, result
from qgraph.ir.types import element_count
from qgraph.ops.nn.elementwise import broadcast_type
from qgraph.targets.litert import float_import
from qgraph.targets.litert.dialect import (
    activation,
    convolution,
    elementwise,
    linear,
    lstm,
    pooling,
    reduction,
    resizing,
    shape,
    softmax,
    transposed,
)
from qgraph.targets.litert.dialect import functions as function_ops
from qgraph.targets.litert.dialect.windows import ACTIVATIONS
from qgraph.targets.litert.kernels import functions
from qgraph.targets.litert.kernels.common import ACTIVATION_BOUNDS
from qgraph.targets.litert.kernels.lstm import gates_side_by_side
from qgraph.targets.litert.rows import BY_OP, FUSED, float_row

BASES = (
    activation,
    convolution,
    elementwise,
    function_ops,
    linear,
    pooling,
    reduction,
    resizing,
    shape,
    softmax,
    transposed,
)
"""Modules whose ops on integers have twins on floats here."""

ELEMENTS = {"w": "f32|i8q|i4q", "shape": "i32"}
"""Storage types of operands that need not be floats, by name."""
NumPy = Callable[..., Any]


def _gelu(view: Any, x: Array) -> Array:
    return functions.gelu_by_tanh(x) if view.approximate else functions.gelu(x)


def _batch_matmul(view: Any, x: Array, y: Array) -> Array:
    left = np.swapaxes(x, -1, -2) if view.adj_x else x
    return np.asarray(left @ (np.swapaxes(y, -1, -2) if view.adj_y else y))


def _l2_normalization(view: Any, x: Array) -> Array:
    norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return np.asarray(x / np.maximum(norm, np.float32(1e-6)))


def _logistic(view: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)), 1 from 16.619 on, exp(x) below -9. Source: reference/logistic.h."""
    middle = 1 / (1 + expf(-x))
    return np.where(x > np.float32(16.619047164916992), np.float32(1), np.where(x < -9, expf(x), middle))


def _softmax(view: Any, x: Array) -> Array:
    """The exponentials are added in order. Source: reference/softmax.h."""
    powers = expf((x - x.max(axis=-1, keepdims=True)) * np.float32(view.beta))
    return np.asarray(powers / np.add.accumulate(powers, axis=-1)[..., -1:])


def _bilinear(view: Any, x: Array) -> Array:
    """RESIZE_BILINEAR in float32. Source: reference/resize_bilinear.h."""
    (dy, top, bottom), (dx, left, right) = (_between(view, x.shape[axis], view.size[axis - 1]) for axis in (1, 2))
    dy, dx = dy[:, None, None], dx[:, None]
    corners = [x[:, rows][:, :, columns] for rows in (top, bottom) for columns in (left, right)]
    weights = [a * b for a in (1 - dy, dy) for b in (1 - dx, dx)]
    above, below = (corners[i] * weights[i] + corners[i + 1] * weights[i + 1] for i in (0, 2))
    return np.asarray(above + below)


def _between(view: Any, size: int, out: int) -> tuple[Array, Array, Array]:
    """Where each result lies between two elements of an axis: the distance to the first one, and both places."""
    corners = view.align_corners and out > 1
    step = np.float32(size - 1) / np.float32(out - 1) if corners else np.float32(size) / np.float32(out)
    half = np.float32(0.5 if view.half_pixel_centers else 0)
    place = (np.arange(out, dtype=np.float32) + half) * step - half
    first = np.maximum(np.floor(place), 0).astype(np.int64)
    return place - first.astype(np.float32), first, np.minimum(np.ceil(place), size - 1).astype(np.int64)


KERNELS: dict[str, NumPy] = {
    "litert.abs": lambda view, x: np.abs(x),
    "litert.batch_matmul": _batch_matmul,
    "litert.elu": lambda view, x: functions.exp_minus_1(x),
    "litert.exp": lambda view, x: expf(x),
    "litert.gelu": _gelu,
    "litert.l2_normalization": _l2_normalization,
    "litert.log": lambda view, x: logf(x),
    "litert.logistic": _logistic,
    "litert.maximum": lambda view, a, b: np.maximum(a, b),
    "litert.minimum": lambda view, a, b: np.minimum(a, b),
    "litert.prelu": lambda view, x, alpha: np.asarray(np.where(x >= 0, x, x * alpha)),
    "litert.reduce_max": lambda view, x: x.max(axis=view.places(), keepdims=view.keep_dims),
    "litert.reduce_min": lambda view, x: x.min(axis=view.places(), keepdims=view.keep_dims),
    "litert.relu_n1_to_1": lambda view, x: np.clip(x, -1, 1),
    "litert.relu_0_to_1": lambda view, x: np.clip(x, 0, 1),
    "litert.resize_bilinear": _bilinear,
    "litert.resize_nearest_neighbor": resizing.ResizeNearestNeighbor.evaluate,
    "litert.rsqrt": lambda view, x: 1 / np.sqrt(x),
    "litert.softmax": _softmax,
    "litert.sqrt": lambda view, x: np.sqrt(x),
    "litert.squared_difference": lambda view, a, b: (a - b) ** 2,
    "litert.sum": lambda view, x: x.sum(axis=view.places(), keepdims=view.keep_dims),
    "litert.tanh": lambda view, x: tanhf(x),
}
"""Ops on floats as the reference kernels compute them, by the op on integers of the same name; `nn` for all others."""


def _evaluate(name: str) -> NumPy:
    """The kernel of the twin of an op."""
    if name in KERNELS:
        return lambda view, *arrays: np.asarray(KERNELS[name](view, *arrays), np.float32)

    def by_nn(view: Any, *arrays: Array | None) -> Array:
        operands: Sequence[Any] = [getattr(view, spec.name) for spec in op_def(name).operands]
        return float_import.evaluate(name, view, operands, arrays)

    return by_nn


def _define(name: str) -> None:
    base = op_def(name)
    twin = f"litert.float_{name.partition('.')[2]}"
    fields: dict[str, object] = {"__doc__": f"`{name}` on floats.", "evaluate": _evaluate(name), "check": _no_check}
    for spec in base.operands:
        dims = spec.pattern.text.partition("[")[2]
        element = ELEMENTS.get(spec.name, "f32")
        fields[spec.name] = operand(f"{element}[{dims}", optional=spec.optional, variadic=spec.variadic, role=spec.role)
    for made in base.results:
        fields[made.name] = result(f"f32[{made.pattern.text.partition('[')[2]}", free=True)
    op(twin, like=name)(type(f"Float{base.cls.__name__}", (base.cls,), fields))
    row = BY_OP[name]
    words = {key: value for key, value in vars(replace(row)).items() if key not in ("op", "operator")}
    float_row(twin, row.operator, **words)


def _no_check(view: Any) -> None:
    """Floats have no parameters that could be wrong."""


def _wants_twin(name: str) -> bool:
    """Whether floats are computed here, and the op on integers does not take them itself."""
    takes_floats = all(spec.pattern.admits(TensorType(())) for spec in op_def(name).operands)
    return (name in KERNELS or name in float_import.CONVERSIONS) and not takes_floats


for _name in list(BY_OP):
    if op_def(_name).cls.__module__ in {base.__name__ for base in BASES} and _wants_twin(_name):
        _define(_name)


class _Function:
    """What ops of one float operand share."""

    x: Operand

    def infer(self) -> TensorType:
        return self.x.type


@op("litert.log_softmax", family="activation")
class LogSoftmax(_Function):
    """LOG_SOFTMAX: x - max - log(sum of exp(x - max)) over the last dimension, on floats.

    Exact on LiteRT's reference kernels and on TFLite Micro: the exponentials are added in order, functions are the C
    library's. Source: reference/reference_ops.h, LogSoftmax.
    """

    x: Operand = operand("f32[...]")
    result: Result = result("f32[...]")

    def powers(self, x: Array) -> tuple[Array, Array]:
        """x - max, and its exponentials."""
        less = x - x.max(axis=-1, keepdims=True)
        return less, expf(less)

    def evaluate(self, x: Array) -> Array:
        less, powers = self.powers(x)
        total = np.add.accumulate(powers, axis=-1)[..., -1:]
        return np.asarray(less - logf(total))


float_row("litert.log_softmax", "LOG_SOFTMAX")


@op("litert.div", elementwise=True)
class Div:
    """DIV: activation(a / b) on floats, with broadcasting."""

    a: Operand = operand("f32[...]")
    b: Operand = operand("f32[...]")
    result: Result = result("f32[...]")
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        return broadcast_type(self.a.type, self.b.type)

    def evaluate(self, a: Array, b: Array) -> Array:
        low, high = ACTIVATION_BOUNDS[self.activation]
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = a / b
        return np.asarray(quotient if self.activation == "NONE" else np.clip(quotient, low, high))


float_row("litert.div", "DIV", options={"activation": FUSED})


@op("litert.neg", family="elementwise", elementwise=True)
class Neg(_Function):
    """NEG: -x on floats."""

    x: Operand = operand("f32[...]")
    result: Result = result("f32[...]")

    def evaluate(self, x: Array) -> Array:
        return np.asarray(-x)


float_row("litert.neg", "NEG")


@op("litert.square", family="elementwise", elementwise=True)
class Square(_Function):
    """SQUARE: x * x on floats."""

    x: Operand = operand("f32[...]")
    result: Result = result("f32[...]")

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x * x)


float_row("litert.square", "SQUARE")


@op("litert.float_unidirectional_sequence_lstm", kind="unidirectional_sequence_lstm")
class FloatLstm:
    """UNIDIRECTIONAL_SEQUENCE_LSTM on floats; shapes, order of gates and limits as in the op on integers."""

    x: Operand = operand("f32[A, B, I]")
    w_input: Operand = operand("f32[U, I]", role="weight")
    w_forget: Operand = operand("f32[U, I]", role="weight")
    w_cell: Operand = operand("f32[U, I]", role="weight")
    w_output: Operand = operand("f32[U, I]", role="weight")
    r_input: Operand = operand("f32[U, U]", role="weight")
    r_forget: Operand = operand("f32[U, U]", role="weight")
    r_cell: Operand = operand("f32[U, U]", role="weight")
    r_output: Operand = operand("f32[U, U]", role="weight")
    b_input: Operand = operand("f32[U]", role="bias")
    b_forget: Operand = operand("f32[U]", role="bias")
    b_cell: Operand = operand("f32[U]", role="bias")
    b_output: Operand = operand("f32[U]", role="bias")
    result: Result = result("f32[A, B, U]")
    cell_clip: float = attr(0.0)
    time_major: bool = attr(False)

    def infer(self) -> TensorType:
        return self.x.type.with_shape((*self.x.type.shape[:2], self.w_input.type.shape[0]))

    def macs(self) -> int:
        units = self.w_input.type.shape[0]
        inputs = element_count((*self.x.type.shape, units))
        return 4 * (inputs + element_count((*self.result.type.shape, units)))  # four gates, of x and of the state

    def evaluate(self, x: Array, *arrays: Array) -> Array:
        steps = x if self.time_major else x.swapaxes(0, 1)
        weights, recurrent, biases = (gates_side_by_side(arrays[place : place + 4]) for place in (0, 4, 8))
        units = len(recurrent)
        of_x = steps @ weights + biases
        cell = output = np.zeros((steps.shape[1], units), np.float32)
        outputs = []
        for given in of_x:
            sums = given + output.dot(recurrent)
            gates = (np.tanh(sums[:, : 3 * units] * HALF) + ONE) * HALF  # logistic
            cell = gates[:, units : 2 * units] * cell + gates[:, :units] * np.tanh(sums[:, 3 * units :])
            if self.cell_clip:
                cell = np.clip(cell, -np.float32(self.cell_clip), np.float32(self.cell_clip))
            output = gates[:, 2 * units :] * np.tanh(cell)
            outputs.append(output)
        return np.stack(outputs, 0 if self.time_major else 1)


HALF, ONE = np.float32(0.5), np.float32(1)


def _states(node: Node) -> Mapping[int, TensorType]:
    x, units = node.operand(0).type, node.operand(1).type.shape[0]
    state = TensorType((x.shape[1] if node.attrs["time_major"] else x.shape[0], units))
    return {lstm.OUTPUT_STATE: state, lstm.CELL_STATE: state}


float_row(
    "litert.float_unidirectional_sequence_lstm",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    options={"cell_clip": "cell_clip", "time_major": "time_major"},
    fixed={FUSED: "TANH"},
    places=lstm.PLACES,
    length=24,
    states=_states,
    read=lstm.read_options,
)
