"""MUL and SQUARED_DIFFERENCE of TFLite Micro, ADD and SUB of int16."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array
from qgraph.targets.litert.dialect import elementwise
from qgraph.targets.litert.dialect.elementwise import Mul, SquaredDifference, Sum
from qgraph.targets.target import Kernel
from qgraph.targets.tflm.kernels import only


def add(op: Sum, a: Array, b: Array) -> Array:
    """ADD, SUB: the general formula for all scales. Source: add_common.cc, sub_common.cc."""
    return elementwise.add(a, b, *op.types, op.activation, op.sign)


def multiply(op: Mul, a: Array, b: Array) -> Array:
    """MUL with its multiplier formed in float64. Source: mul_common.cc."""
    return elementwise.multiply(a, b, *op.types, op.activation, np.float64)


def squared_difference(op: SquaredDifference, a: Array, b: Array) -> Array:
    """SQUARED_DIFFERENCE with any parameters. Source: squared_difference.cc."""
    return elementwise.squared_difference(a, b, *op.types)


KERNELS: dict[str, Kernel] = {
    "litert.add": only("i8", "i16", run=add),
    "litert.sub": only("i8", "i16", run=add),
    "litert.mul": only("i8", "i16", run=multiply),
    "litert.maximum": only("i8", "i16"),
    "litert.minimum": only("i8", "i16"),
    "litert.squared_difference": squared_difference,
}
