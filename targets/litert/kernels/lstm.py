"""UNIDIRECTIONAL_SEQUENCE_LSTM: the recurrence that all families share, and the reference kernels' arithmetic in it.

Gates stand in the order input, forget, cell, output. Their sums are on Q3.12, activated gates on Q0.15, the cell has
16 bits and a scale 2**cell_power. Source: kernels/lstm_eval.cc, UpdateLstmCellInteger and UpdateLstmHiddenInteger.

A step works on a few numbers, so what can be done before the first one is: functions of 16 bits are tables of all
codes, multipliers are ready, and the gates lie side by side: input, forget, output, cell (`ORDER`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith import gemmlowp
from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.ir import Array
from qgraph.targets.litert.kernels.common import scale, zero_point

if TYPE_CHECKING:
    from qgraph.targets.litert.dialect.lstm import UnidirectionalSequenceLstm

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
    `products(op, units)`: rescales [input * candidate, forget * cell], [N, 2 U], to codes of the cell.
    `output(op)`: the factor and the zero point of output gate * tanh of the cell.
    """

    gate_scale: Callable[[np.float32, np.float32], float]
    saturates_first: bool
    gates: Callable[[], tuple[Table, Table]]
    cell: Callable[[int], Table]
    products: Callable[[UnidirectionalSequenceLstm, int], Rescale]
    output: Callable[[UnidirectionalSequenceLstm], tuple[float, int]]


def sequence(op: UnidirectionalSequenceLstm, arrays: Sequence[Array], family: Arithmetic) -> Array:
    """The outputs of all steps from a state of real 0, codes [N, T, U] (or [T, N, U]) of int8.

    `arrays`: x, the weights of x, the weights of the output before, the biases.
    """
    x, weights, recurrent, biases = arrays[0], arrays[1:5], arrays[5:9], arrays[9:13]
    steps = x if op.time_major else x.swapaxes(0, 1)
    scales = scale(op.x.type), np.float32(op.state_scale)
    of_x, of_state = (
        np.repeat([family.gate_scale(s, scale(types[gate].type)) for gate in ORDER], biases[0].size)
        for s, types in zip(scales, (op.weights, op.recurrent), strict=True)
    )
    sums = _product(steps.astype(np.float64) - zero_point(op.x.type), gates_side_by_side(weights)) + gates_side_by_side(
        biases
    )
    inputs = _clipped(multiply_double_rounding(sums, *quantize_multiplier(of_x)).astype(np.int64))
    outputs = _recurrence(
        op, inputs, gates_side_by_side(recurrent).astype(np.float64), double_rounding(of_state), family
    )
    return np.stack(outputs, 0 if op.time_major else 1).astype(np.int8)


def _recurrence(
    op: UnidirectionalSequenceLstm, inputs: Integers, recurrent: Array, of_state: Rescale, family: Arithmetic
) -> list[Integers]:
    """The outputs [N, U] of all steps; `inputs` [T, N, 4 U]: what x gives to the gates; `recurrent` [U, 4 U]."""
    _, batch, columns = inputs.shape
    units = columns // 4
    table, places = _gate_table(family, units)
    tanh_of_cell, products = family.cell(op.cell_power), family.products(op, units)
    factor, zero = family.output(op)
    low, high = np.array(-128 - zero), np.array(127 - zero)
    to_output = double_rounding(factor)
    floor, bound = (np.array(-op.clip), np.array(op.clip)) if op.clip else (LOWEST, HIGHEST)
    output = np.zeros((batch, units))  # code - state_zero_point
    factors: Integers = np.zeros((batch, 2 * units), np.int64)  # of the input and the forget gate: candidate, cell
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


REFERENCE = Arithmetic(_gate_scale, False, _gates, _cell, _products, _output)
