"""UNIDIRECTIONAL_SEQUENCE_LSTM with int8 activations and weights and an int16 cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.exporters.tflite import Operator
from qgraph.ir import Array, Node, Operand, QuantParams, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.targets.litert.kernels import lstm
from qgraph.targets.litert.kernels.lstm import gates_side_by_side
from qgraph.targets.litert.rows import FUSED, TypeOf, float_row, row

WEIGHT, RECURRENT, BIAS = "i8q[U, I]", "i8q[U, U]", "i32[U]"
PLACES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15)
"""Places of the op's operands among the operator's: between them stand peepholes."""
OUTPUT_STATE, CELL_STATE = 18, 19
"""Places of the states among the operator's operands."""
HIDDEN = 4
"""Place of the output's parameters among the intermediates."""
HALF, ONE = np.float32(0.5), np.float32(1)
CELL_POWERS = (-15, -9)
"""Lowest and highest exponent of the cell's scale, a power of two. Source: lstm_eval.cc, ApplyTanh (0 to 6 bits)."""


@op("litert.unidirectional_sequence_lstm")
class UnidirectionalSequenceLstm:
    """UNIDIRECTIONAL_SEQUENCE_LSTM: x [N, T, I] (or [T, N, I] where `time_major`) to the outputs [N, T, U].

    Without coupled gates, peepholes, projection and layer normalization. Each sequence starts at a state of real 0:
    codes `state_zero_point` of the output, 0 of the cell. `state_scale` and `cell_scale`: of the output and the cell;
    `hidden_scale` and `hidden_zero_point`: of the output as LiteRT computes it (files give both alike).
    `cell_clip`: bound of the cell in real numbers, 0 for none.
    """

    x: Operand = operand("i8q[A, B, I]")
    w_input: Operand = operand(WEIGHT, role="weight")
    w_forget: Operand = operand(WEIGHT, role="weight")
    w_cell: Operand = operand(WEIGHT, role="weight")
    w_output: Operand = operand(WEIGHT, role="weight")
    r_input: Operand = operand(RECURRENT, role="weight")
    r_forget: Operand = operand(RECURRENT, role="weight")
    r_cell: Operand = operand(RECURRENT, role="weight")
    r_output: Operand = operand(RECURRENT, role="weight")
    b_input: Operand = operand(BIAS, role="bias")
    b_forget: Operand = operand(BIAS, role="bias")
    b_cell: Operand = operand(BIAS, role="bias")
    b_output: Operand = operand(BIAS, role="bias")
    result: Result = result("i8q[A, B, U]", free=True)
    state_scale: float = attr()
    state_zero_point: int = attr()
    cell_scale: float = attr()
    hidden_scale: float = attr()
    hidden_zero_point: int = attr()
    cell_clip: float = attr(0.0)
    time_major: bool = attr(False)

    def infer(self) -> TensorType:
        return self.x.type.with_shape((*self.x.type.shape[:2], self.w_input.type.shape[0]))

    def check(self) -> None:
        low, high = CELL_POWERS
        fraction, exponent = np.frexp(self.cell_scale)
        if fraction != 0.5 or not low <= exponent - 1 <= high:
            raise TypeMismatch(f"cell_scale {self.cell_scale} is not a power of two from 2**{low} to 2**{high}")
        if any(isinstance(size, str) for size in self.x.type.shape[:2]):
            raise TypeMismatch(f"the batch of {self.x.type} must be known: the file holds a state for each example")
        if not (self.state_scale > 0 and self.hidden_scale > 0 and self.cell_clip >= 0):
            raise TypeMismatch("state_scale and hidden_scale must be positive, cell_clip must not be negative")
        for w in (*self.weights, *self.recurrent):
            if w.type.q.axis is not None or any(w.type.q.zero_point):
                raise TypeMismatch(f"a weight {w.type} must have one scale and a zero point of 0")

    @property
    def weights(self) -> tuple[Operand, ...]:
        """The weights of x, by gate: input, forget, cell, output."""
        return self.w_input, self.w_forget, self.w_cell, self.w_output

    @property
    def recurrent(self) -> tuple[Operand, ...]:
        """The weights of the output before, by gate."""
        return self.r_input, self.r_forget, self.r_cell, self.r_output

    @property
    def cell_power(self) -> int:
        """The exponent of the cell's scale."""
        return int(np.frexp(self.cell_scale)[1]) - 1

    @property
    def clip(self) -> int:
        """`cell_clip` in codes of the cell, 0 for none."""
        return int(min(self.cell_clip / self.cell_scale, 32767.0))

    def macs(self) -> int:
        units = self.w_input.type.shape[0]
        inputs = element_count((*self.x.type.shape, units))
        return 4 * (inputs + element_count((*self.result.type.shape, units)))  # four gates, of x and of the state

    def evaluate(self, *arrays: Array) -> Array:
        return lstm.sequence(self, arrays, lstm.REFERENCE)


def _states(node: Node) -> Mapping[int, TensorType]:
    x, units = node.operand(0).type, node.operand(1).type.shape[0]
    shape = x.shape[1] if node.attrs["time_major"] else x.shape[0], units
    output = QuantParams.of(node.attrs["state_scale"], node.attrs["state_zero_point"])
    return {
        OUTPUT_STATE: TensorType(shape, "i8", output),
        CELL_STATE: TensorType(shape, "i16", QuantParams.of(node.attrs["cell_scale"])),
    }


def _intermediates(node: Node) -> list[TensorType]:
    """Four that only layer normalization needs, and the output's parameters. TFLM wants all of them empty."""
    hidden = QuantParams.of(node.attrs["hidden_scale"], node.attrs["hidden_zero_point"])
    return [*[TensorType((0,))] * HIDDEN, TensorType((0,), "i8", hidden)]


def _read_types(operator: Operator, type_of: TypeOf) -> dict[str, Any]:
    if len(operator.inputs) <= CELL_STATE or len(operator.intermediates) <= HIDDEN:
        raise TypeMismatch("the operator has no states or no intermediates, which the integer kernels need")
    state, cell = (type_of(operator.inputs[place]) for place in (OUTPUT_STATE, CELL_STATE))
    hidden = type_of(operator.intermediates[HIDDEN])
    if (state.dtype, cell.dtype, hidden.dtype) != ("i8", "i16", "i8"):
        raise TypeMismatch(f"states of types {state}, {cell} and {hidden}, not i8, i16 and i8")
    return {
        "state_scale": state.q.scale[0],
        "state_zero_point": state.q.zero_point[0],
        "cell_scale": cell.q.scale[0],
        "hidden_scale": hidden.q.scale[0],
        "hidden_zero_point": hidden.q.zero_point[0],
    }


def read_options(operator: Operator) -> dict[str, Any]:
    """No attributes; raises TypeMismatch for options that no kernel here computes."""
    if operator.options[FUSED] != "TANH" or operator.options["diagonal_recurrent_tensors"]:
        raise TypeMismatch(f"an LSTM with {operator.options} is not supported: activation TANH, full weights")
    return {}


row(
    "litert.unidirectional_sequence_lstm",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    options={"cell_clip": "cell_clip", "time_major": "time_major"},
    fixed={FUSED: "TANH"},
    places=PLACES,
    length=24,
    states=_states,
    intermediates=_intermediates,
    read_types=_read_types,
    read=read_options,
)


@op("litert.float_unidirectional_sequence_lstm", like="litert.unidirectional_sequence_lstm")
class FloatUnidirectionalSequenceLstm:
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


def _float_states(node: Node) -> Mapping[int, TensorType]:
    x, units = node.operand(0).type, node.operand(1).type.shape[0]
    state = TensorType((x.shape[1] if node.attrs["time_major"] else x.shape[0], units))
    return {OUTPUT_STATE: state, CELL_STATE: state}


float_row(
    "litert.float_unidirectional_sequence_lstm",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    integers="litert.unidirectional_sequence_lstm",
    exact_on=(),
    options={"cell_clip": "cell_clip", "time_major": "time_major"},
    fixed={FUSED: "TANH"},
    places=PLACES,
    length=24,
    states=_float_states,
    read=read_options,
)
