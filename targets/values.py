"""Values of a graph that is lowered: what rows of several targets ask of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.ir import Builder, Element, TensorType, Value
from qgraph.ir.types import integer_range
from qgraph.ops.quant import quantize


def element_of(x: Value) -> Element:
    """Storage and parameters of a value."""
    return x.type.dtype, x.type.quant


def open_shape(value: Value) -> tuple[int, ...]:
    """The shape of a value with -1 for the size that is open."""
    return tuple(-1 if isinstance(size, str) else int(size) for size in value.type.shape)


def levelled_shape(x: Value, rank: int) -> tuple[int, ...]:
    """The shape of a value with as many dimensions as `rank`."""
    return (*(1,) * (rank - x.type.rank), *open_shape(x))


def reshaped(build: Builder, op: str, x: Value, shape: tuple[int, ...]) -> Value:
    """x with that shape by a dialect's op, or x where it has it."""
    if shape == open_shape(x):
        return x
    return build.node(op, [x], {"shape": shape}, element=element_of(x)).result


def codes_of(numbers: Sequence[float], type: TensorType) -> tuple[int, ...]:
    """Real numbers as codes of a grid, the nearest within its storage."""
    q = type.q
    each = quantize(np.asarray(numbers, np.float32), q.scales, q.zero_points, integer_range(type.dtype), None)
    return tuple(int(code) for code in each)
