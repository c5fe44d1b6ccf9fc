"""UNIDIRECTIONAL_SEQUENCE_LSTM with int8 weights, an int16 cell, and int8 activations; int16 ones on TFLite Micro.

The recurrence is what all families share, the arithmetic in it that of the reference kernels.

Gates stand in the order input, forget, cell, output. Their sums are on Q3.12, activated gates on Q0.15, the cell has
16 bits and a scale 2**cell_power. Source: kernels/lstm_eval.cc, UpdateLstmCellInteger and UpdateLstmHiddenInteger.

A step works on a few numbers, so what can be done before the first one is: functions of 16 bits are tables of all
codes, multipliers are ready, and the gates lie side by side: input, forget, output, cell (`ORDER`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith import gemmlowp
from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.errors import TypeMismatch, UnsupportedOp
from qgraph.exporters.tflite import Operator
from qgraph.ir import Array, Node, Operand, QuantParams, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count, integer_range
from qgraph.targets.litert.cells import CELL_POWERS
from qgraph.targets.litert.dialect.parameters import scale, zero_point
from qgraph.targets.litert.rows import FUSED, TypeOf, float_row, row

Integers = NDArray[np.int64]
Rescale = Callable[[Integers], Integers]
"""Multiplies by real factors that it holds, one or one for each column, and rounds."""
Table = NDArray[np.int64]
"""A function of 16 bits: its values at -32768 to 32767, [65536]."""

ORDER = (0, 1, 3, 2)
CODES = np.arange(-32768, 32768)
LOWEST, HIGHEST = np.array(-32768), np.array(32767)  # arrays: NumPy is slower to take Python's numbers


@dataclass(frozen=True)
class Arithmetic:
    """What a family computes in the recurrence.

    `gate_scale(x_scale, w_scale)`: the factor of a gate's sum. `saturates_first`: the sum over the output before is
    saturated to 16 bits before it is added. `gates`: logistic and tanh of Q3.12. `cell(cell_power)`: tanh of a cell.
    `sums(factors, storage)`: rescales gates' sums over values of that storage. `products(op, units)`: rescales
    [input * candidate, forget * cell], [N, 2 U], to codes of the cell. `output(op)`: the factor and the zero point of
    output gate * tanh of the cell.
    """

    gate_scale: Callable[[np.float32, np.float32], float]
    saturates_first: bool
    gates: Callable[[], tuple[Table, Table]]
    cell: Callable[[int], Table]
    sums: Callable[[ArrayLike, str], Rescale]
    products: Callable[[UnidirectionalSequenceLstm, int], Rescale]
    output: Callable[[UnidirectionalSequenceLstm], tuple[float, int]]


def sequence(op: UnidirectionalSequenceLstm, arrays: Sequence[Any], family: Arithmetic) -> Array:
    """The outputs of all steps, codes [N, T, U] (or [T, N, U]).

    `arrays`: x, the weights of x, the weights of the output before, the biases; the states before the first step, or
    None for real 0.
    """
    x, weights, recurrent, biases, begins = arrays[0], arrays[1:5], arrays[5:9], arrays[9:13], arrays[13:]
    steps = x if op.time_major else x.swapaxes(0, 1)
    scales = scale(op.x.type), np.float32(op.state_scale)
    of_x, of_state = (
        np.repeat([family.gate_scale(s, scale(types[gate].type)) for gate in ORDER], biases[0].size)
        for s, types in zip(scales, (op.weights, op.recurrent), strict=True)
    )
    sums = _product(steps.astype(np.float64) - zero_point(op.x.type), gates_side_by_side(weights)) + gates_side_by_side(
        biases
    )
    storage = op.x.type.dtype
    inputs = _clipped(family.sums(of_x, storage)(sums))
    rescaled = family.sums(of_state, storage)
    outputs = _recurrence(op, inputs, gates_side_by_side(recurrent).astype(np.float64), rescaled, family, begins)
    return np.stack(outputs, 0 if op.time_major else 1).astype(op.x.type.numpy)


def _recurrence(
    op: UnidirectionalSequenceLstm,
    inputs: Integers,
    recurrent: Array,
    of_state: Rescale,
    family: Arithmetic,
    begins: Sequence[Array | None],
) -> list[Integers]:
    """The outputs [N, U] of all steps; `inputs` [T, N, 4 U]: what x gives to the gates; `recurrent` [U, 4 U]; `begins`:
    codes of the output and the cell before, or None."""
    _, batch, columns = inputs.shape
    units = columns // 4
    table, places = _gate_table(family, units)
    tanh_of_cell, products = family.cell(op.cell_power), family.products(op, units)
    factor, zero = family.output(op)
    low, high = (np.array(code - zero) for code in integer_range(op.result.type.dtype))
    to_output = double_rounding(factor)
    floor, bound = (np.array(-op.clip), np.array(op.clip)) if op.clip else (LOWEST, HIGHEST)
    output = np.zeros((batch, units))  # code - state_zero_point
    factors: Integers = np.zeros((batch, 2 * units), np.int64)  # of the input and the forget gate: candidate, cell
    first, first_cell = begins
    if first is not None and first_cell is not None:
        output, factors[:, units:] = first.astype(np.float64) - op.state_zero_point, first_cell
    shift = np.array(float(zero - op.state_zero_point))
    outputs = []
    for given in inputs:
        sums = of_state(_product(output, recurrent))
        if family.saturates_first:
            sums = _clipped(sums)
        gates = table[_clipped(given + sums) + places]
        factors[:, :units] = gates[:, 3 * units :]
        added = products(gates[:, : 2 * units] * factors)
        cell = np.minimum(np.maximum(added[:, :units] + added[:, units:], floor), bound)
        factors[:, units:] = cell
        codes = to_output(gates[:, 2 * units : 3 * units] * tanh_of_cell[cell + 32768])
        outputs.append(np.minimum(np.maximum(codes, low), high))
        output = outputs[-1] + shift
    return [codes + zero for codes in outputs]


def gates_side_by_side(by_gate: Sequence[Array]) -> Array:
    """Weights [U, I] or biases [U] of the gates in the order `ORDER`: [I, 4 U] or [4 U]."""
    return np.concatenate([by_gate[gate].T for gate in ORDER], axis=-1)


def _product(x: Array, w: Array) -> Integers:
    """x @ w; exact in float64, as sums of products below 2**15 stay below 2**53."""
    return np.asarray(x.dot(w), np.int64)


def _clipped(value: Integers) -> Integers:
    """The value saturated to 16 bits; two comparisons, which take less time than `clip` on few numbers."""
    clipped: Integers = np.minimum(np.maximum(value, LOWEST), HIGHEST)
    return clipped


def _gate_table(family: Arithmetic, units: int) -> tuple[Table, Integers]:
    """Logistic and tanh in one table, and where in it a column of the gates has its code 0."""
    logistic, tanh = family.gates()
    places = np.full(4 * units, 32768, np.int64)
    places[3 * units :] += 65536
    return np.concatenate([logistic, tanh]), places


def double_rounding(real: ArrayLike) -> Rescale:
    """Multiplication of int32 values by real factors, as `multiply_double_rounding` (which has the proof)."""
    multiplier, shift = (part.astype(np.int64) for part in quantize_multiplier(real))
    if np.any(shift > 0):
        return lambda value: multiply_double_rounding(value, multiplier, shift).astype(np.int64)
    half = (np.int64(1) << (30 - shift)) + np.where(shift < 0, 1 << 30, 0)
    negative, right = np.where(shift < 0, -(1 << 31), 0), 31 - shift

    def rescale(value: Integers) -> Integers:
        product = value * multiplier
        product += half + ((product >> 63) & negative)
        product >>= right
        return product

    return rescale


def _halves_away(right: Integers) -> Rescale:
    """Division by 2**right, ties away from zero."""
    half = np.int64(1) << (right - 1)
    return lambda value: (value + half + (value >> 63)) >> right


def _gate_scale(x: np.float32, w: np.float32) -> float:
    return float(np.float32(w * x) * np.float32(4096))


@cache
def _gates() -> tuple[Table, Table]:
    return gemmlowp.logistic(CODES, 3, 16), gemmlowp.tanh(CODES, 3, 16)


@cache
def _cell(power: int) -> Table:
    return gemmlowp.tanh(CODES, 15 + power, 16)


def _products(op: UnidirectionalSequenceLstm, units: int) -> Rescale:
    """Below 2**15 in magnitude, so that their 16 bits do not wrap."""
    return _halves_away(np.repeat([30 + op.cell_power, 15], units))


def _output(op: UnidirectionalSequenceLstm) -> tuple[float, int]:
    factor = np.float32(2.0**-15 / np.float64(np.float32(op.hidden_scale)) * 2.0**-15)
    return float(factor), op.hidden_zero_point


def in_32_bits(factors: ArrayLike, storage: str) -> Rescale:
    """Sums in int32, of values of 8 bits."""
    return double_rounding(factors)


REFERENCE = Arithmetic(_gate_scale, False, _gates, _cell, in_32_bits, _products, _output)


WEIGHT, RECURRENT, BIAS = "i8q[U, I]", "i8q[U, U]", "i32|i64[U]"
ACTIVATIONS = ("i8", "i16")
PLACES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15)
"""Places of the op's operands among the operator's: between them stand peepholes."""
OUTPUT_STATE, CELL_STATE = 18, 19
"""Places of the states among the operator's operands."""
LENGTH = 24
"""How many operands the operator has; what its states begin with stands behind them (`begun_states`)."""
HIDDEN = 4
"""Place of the output's parameters among the intermediates."""
HALF, ONE = np.float32(0.5), np.float32(1)


@op("litert.unidirectional_sequence_lstm", kind="lstm")
class UnidirectionalSequenceLstm:
    """UNIDIRECTIONAL_SEQUENCE_LSTM: x [N, T, I] (or [T, N, I] where `time_major`) to the outputs [N, T, U].

    Without coupled gates, peepholes, projection and layer normalization. Each sequence starts at the states `h` and
    `c`, or without them at what the runtime resets its own to, real 0: codes `state_zero_point` of the output, 0 of the
    cell. `state_scale` and `cell_scale`: of the output and the cell; `hidden_scale` and `hidden_zero_point`: of the
    output as LiteRT computes it (files give both alike).
    `cell_clip`: bound of the cell in real numbers, 0 for none.
    """

    x: Operand = operand("i8q|i16q[A, B, I]")
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
    h: Operand | None = operand("i8q|i16q[N, U]", optional=True, role="state")
    c: Operand | None = operand("i16q[N, U]", optional=True, role="state")
    result: Result = result("i8q|i16q[A, B, U]", free=True)
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
        self._check_begins()
        self._check_storage()
        if not (self.state_scale > 0 and self.hidden_scale > 0 and self.cell_clip >= 0):
            raise TypeMismatch("state_scale and hidden_scale must be positive, cell_clip must not be negative")
        for w in (*self.weights, *self.recurrent):
            if w.type.q.axis is not None or any(w.type.q.zero_point):
                raise TypeMismatch(f"a weight {w.type} must have one scale and a zero point of 0")

    def _check_storage(self) -> None:
        """All activations have one storage; 16 bits are symmetric, and go with biases of int64."""
        x, biases = self.x.type, (self.b_input, self.b_forget, self.b_cell, self.b_output)
        wide = x.dtype == "i16"
        others = {self.result.type.dtype} | ({self.h.type.dtype} if self.h is not None else set())
        if others != {x.dtype} or any(bias.type.dtype != ("i64" if wide else "i32") for bias in biases):
            raise TypeMismatch(f"x is {x}: result and h must be of that storage, biases int32, or int64 beside int16")
        if wide and (any(x.q.zero_point) or self.state_zero_point or self.hidden_zero_point):
            raise TypeMismatch("16-bit activations must have zero points of 0")

    def _check_begins(self) -> None:
        if self.h is None and self.c is None:
            if any(isinstance(size, str) for size in self.x.type.shape[:2]):
                raise TypeMismatch(f"the batch of {self.x.type} must be known: the file holds a state for each example")
            return
        wanted = QuantParams.of(self.state_scale, self.state_zero_point), QuantParams.of(self.cell_scale)
        batch = self.x.type.shape[1 if self.time_major else 0]
        for state, quant in zip((self.h, self.c), wanted, strict=True):
            if state is None or state.type.quant != quant or state.type.shape[0] != batch:
                given = "none" if state is None else state.type
                raise TypeMismatch(f"h and c must be {batch} examples on the grids of the states, not {given}")

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

    def evaluate(self, *arrays: Any) -> Array:
        if self.x.type.dtype != "i8":
            raise UnsupportedOp("LiteRT's LSTM has no activations of 16 bits", help="run it on TFLite Micro")
        return sequence(self, arrays, REFERENCE)


def _states(node: Node) -> Mapping[int, TensorType]:
    x, units = node.operand(0).type, node.operand(1).type.shape[0]
    shape = x.shape[1] if node.attrs["time_major"] else x.shape[0], units
    output = QuantParams.of(node.attrs["state_scale"], node.attrs["state_zero_point"])
    return {
        OUTPUT_STATE: TensorType(shape, x.dtype, output),
        CELL_STATE: TensorType(shape, "i16", QuantParams.of(node.attrs["cell_scale"])),
    }


def _intermediates(node: Node) -> list[TensorType]:
    """Four that only layer normalization needs, and the output's parameters. TFLM wants all of them empty."""
    hidden = QuantParams.of(node.attrs["hidden_scale"], node.attrs["hidden_zero_point"])
    return [*[TensorType((0,))] * HIDDEN, TensorType((0,), node.operand(0).type.dtype, hidden)]


def _read_types(operator: Operator, type_of: TypeOf) -> dict[str, Any]:
    if len(operator.inputs) <= CELL_STATE or len(operator.intermediates) <= HIDDEN:
        raise TypeMismatch("the operator has no states or no intermediates, which the integer kernels need")
    state, cell = (type_of(operator.inputs[place]) for place in (OUTPUT_STATE, CELL_STATE))
    hidden = type_of(operator.intermediates[HIDDEN])
    if state.dtype not in ACTIVATIONS or cell.dtype != "i16" or hidden.dtype != state.dtype:
        raise TypeMismatch(f"states of types {state}, {cell} and {hidden}, not i8, i16 and i8, or of i16 all")
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
    places=(*PLACES, LENGTH, LENGTH + 1),
    length=LENGTH,
    states=_states,
    begins={OUTPUT_STATE: LENGTH, CELL_STATE: LENGTH + 1},
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
    length=LENGTH,
    states=_float_states,
    read=read_options,
)
