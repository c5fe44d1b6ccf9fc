"""UNIDIRECTIONAL_SEQUENCE_LSTM in C99, of either family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qgraph.arith.fixed_point import quantize_multiplier
from qgraph.errors import UnsupportedOp
from qgraph.ir import TensorType, Value
from qgraph.ir.types import integer_range
from qgraph.targets.c_source import Emission
from qgraph.targets.litert.dialect.lstm import (
    REFERENCE,
    Arithmetic,
    UnidirectionalSequenceLstm,
)
from qgraph.targets.litert.dialect.parameters import scale, zero_point

LARGEST_SUM = 2.0**31 - 2**16
"""Of a gate's products, and of what they are multiplied to: the other sum is added to it."""


@dataclass(frozen=True)
class InC:
    """A family's arithmetic, its functions in `library.c`, and what they are told of a gate and of a cell's power."""

    arithmetic: Arithmetic
    logistic: str
    tangent: str
    of_gate: int
    of_cell: int  # with the power added


OF_REFERENCE = InC(REFERENCE, "qg_logistic_16", "qg_tanh_16", 3, 15)


def lstm(c: Emission, op: UnidirectionalSequenceLstm, family: InC = OF_REFERENCE) -> None:
    """The whole sequence of each example; a state that is not given begins with zeros."""
    if not all(value.is_constant for value in (*op.weights, *op.recurrent, *_biases(op))):
        raise UnsupportedOp("C has it for constant weights and biases")
    if op.x.type.dtype != "i8":
        raise UnsupportedOp("C has it for activations of 8 bits: prepare with lstm='steps'")
    units, (first, second, inputs) = int(op.w_input.type.shape[0]), (int(size) for size in op.x.type.shape)
    examples, steps = (second, first) if op.time_major else (first, second)
    factors = _factors(op, family.arithmetic)
    multiplier, shift = quantize_multiplier(np.array(factors))
    factor, zero = family.arithmetic.output(op)
    y_multiplier, y_shift = quantize_multiplier(factor)
    low, high = (-op.clip, op.clip) if op.clip else integer_range("i16")
    example_step = (1, examples) if op.time_major else (steps, 1)
    use = c.program.library.use
    how = c.program.struct(
        f"{op.result.name}_how",
        use("qg_lstm_how"),
        [
            *(examples, steps, inputs, units),
            *(width * each for width in (inputs, units) for each in example_step),
            *(c.constant("multiplier", multiplier.astype(np.int32)), c.constant("shift", shift.astype(np.int8))),
            *(zero_point(op.x.type), op.state_zero_point, zero, int(y_multiplier), low, high),
            *(int(y_shift), 30 + op.cell_power, family.of_gate, family.of_cell + op.cell_power),
            *(int(family.arithmetic.saturates_first), use(family.logistic), use(family.tangent)),
        ],
    )
    cell = c.room("int16", examples * units)
    c.copy(cell, _begin(c, op.c, (examples, units), np.int16, 0), TensorType((examples, units), "i16"))
    parts = (
        _together(c, "weights", op.weights),
        _together(c, "recurrent", op.recurrent),
        _together(c, "biases", _biases(op)),
    )
    h = _begin(c, op.h, (examples, units), np.int8, op.state_zero_point)
    c.program.call(use("qg_lstm"), c.of(op.x), *parts, h, cell, c.of(op.result), f"&{how}")


def _biases(op: UnidirectionalSequenceLstm) -> tuple[Value, ...]:
    return op.b_input, op.b_forget, op.b_cell, op.b_output


def _together(c: Emission, name: str, values: tuple[Value, ...]) -> str:
    """What the gates have, one after the other."""
    return c.constant(name, np.stack([value.data for value in values]))


def _begin(
    c: Emission, state: Value | None, shape: tuple[int, int], dtype: type[np.signedinteger[Any]], code: int
) -> str:
    return c.of(state) if state is not None else c.constant("begin", np.full(shape, code, dtype))


def _factors(op: UnidirectionalSequenceLstm, family: Arithmetic) -> list[float]:
    """The factors of the gates' sums, of x and of h; raises UnsupportedOp where a sum may leave int32."""
    factors = []
    for weights, of, zero, biases in (
        (op.weights, scale(op.x.type), zero_point(op.x.type), _biases(op)),
        (op.recurrent, np.float32(op.state_scale), op.state_zero_point, ()),
    ):
        for number, w in enumerate(weights):
            factors.append(family.gate_scale(of, scale(w.type)))
            most = int(np.abs(w.data.astype(np.int64)).sum(axis=1).max()) * max(zero + 128, 127 - zero)
            most += int(np.abs(biases[number].data.astype(np.int64)).max()) if biases else 0
            if most * max(factors[-1], 1.0) >= LARGEST_SUM:
                raise UnsupportedOp("C has it for sums that cannot leave int32")
    return factors
