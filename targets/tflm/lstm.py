"""UNIDIRECTIONAL_SEQUENCE_LSTM on TFLite Micro: multipliers in float64, interpolated tables for logistic and tanh.

Source: tensorflow/lite/micro/kernels/lstm_eval.h and lstm_eval_common.cc.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qgraph.arith import sigmoid_table
from qgraph.arith.fixed_point import multiply_wide, quantize_multiplier
from qgraph.ir import Array
from qgraph.targets.litert.dialect.lstm import (
    CODES,
    HIGHEST,
    LOWEST,
    Arithmetic,
    Integers,
    Rescale,
    Table,
    UnidirectionalSequenceLstm,
    double_rounding,
    in_32_bits,
    sequence,
)
from qgraph.targets.target import Kernel


def _gate_scale(x: np.float32, w: np.float32) -> float:
    return float(x) * float(w) * 4096


@cache
def _gates() -> tuple[Table, Table]:
    return sigmoid_table.logistic(3 * CODES), sigmoid_table.tanh(3 * CODES)


@cache
def _cell(power: int) -> Table:
    """The cell goes to Q3.12 by a shift, rounded half up to the right."""
    shift = 12 + power
    argument = (3 * CODES) << shift if shift >= 0 else (3 * CODES + (1 << (-shift - 1))) >> -shift
    return sigmoid_table.tanh(argument)


def _products(op: UnidirectionalSequenceLstm, units: int) -> Rescale:
    """Both saturated to 16 bits before they are added."""
    rescale = double_rounding(np.repeat([2.0 ** (-30 - op.cell_power), 2.0**-15], units))

    def saturated(value: Integers) -> Integers:
        clipped: Integers = np.minimum(np.maximum(rescale(value), LOWEST), HIGHEST)
        return clipped

    return saturated


def _output(op: UnidirectionalSequenceLstm) -> tuple[float, int]:
    return 2.0**-30 / op.state_scale, op.state_zero_point


def _sums(factors: ArrayLike, storage: str) -> Rescale:
    """Sums over values of 16 bits are in int64, and rounded once, by a multiplier of 16 bits."""
    if storage == "i8":
        return in_32_bits(factors, storage)
    multiplier, shift = quantize_multiplier(factors)
    return lambda value: multiply_wide(value, multiplier, shift).astype(np.int64)


MICRO = Arithmetic(_gate_scale, True, _gates, _cell, _sums, _products, _output)


def lstm(op: UnidirectionalSequenceLstm, *arrays: Any) -> Array:
    """The outputs of all steps; see `kernels.lstm.sequence`."""
    return sequence(op, arrays, MICRO)


KERNELS: dict[str, Kernel] = {"litert.unidirectional_sequence_lstm": lstm}
