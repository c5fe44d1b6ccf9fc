"""Functions that `nn` writes by several ops, whichever front end asks for them."""

from __future__ import annotations

import math

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import reshaped
from qgraph.ir import Builder, Value
from qgraph.ir.types import NUMPY_DTYPE


def number(build: Builder, value: float, dtype: str = "f32") -> Value:
    """A number as a constant without dimensions."""
    return build.constant(np.array(value, NUMPY_DTYPE[dtype]))


def cast(build: Builder, x: Value, dtype: str) -> Value:
    """x in another dtype; what is in it stays."""
    return x if x.type.dtype == dtype else build.value("nn.cast", [x], {"dtype": dtype})


def scaled(build: Builder, x: Value, factor: float) -> Value:
    """x times a number."""
    return x if factor == 1 else build.value("nn.mul", [x, number(build, factor, x.type.dtype)], {})


def truncated(build: Builder, x: Value) -> Value:
    """The integer part of floats: the magnitude rounded down, with its sign."""
    return build.value("nn.mul", [build.nn.floor(build.nn.abs(x)), build.nn.sign(x)], {})


def integer_sign(build: Builder, x: Value) -> Value:
    """The sign of integers by comparisons, which no target rounds: (0 < x) - (x < 0); conditions are their own."""
    if x.type.dtype == "bool":
        return x
    zero = number(build, 0, x.type.dtype)
    wide = x.type.dtype if x.type.dtype in ("i64", "i32") else "i32"
    above, below = (cast(build, build.nn.less(*pair), wide) for pair in ((zero, x), (x, zero)))
    return cast(build, build.nn.sub(above, below), x.type.dtype)


def truncated_quotient(build: Builder, x: Value, y: Value) -> Value:
    """x / y, rounded towards 0."""
    if x.type.is_float:
        return truncated(build, build.nn.div(x, y))
    magnitude = build.nn.floor_div(build.nn.abs(x), build.nn.abs(y))
    sign = build.nn.mul(integer_sign(build, x), integer_sign(build, y))
    return build.value("nn.mul", [magnitude, sign], {})


def truncated_remainder(build: Builder, x: Value, y: Value) -> Value:
    """What the truncated quotient leaves of x, with the sign of x."""
    return build.value("nn.sub", [x, build.nn.mul(truncated_quotient(build, x, y), y)], {})


def tangent(build: Builder, x: Value) -> Value:
    """sin / cos."""
    return build.nn.div(build.nn.sin(x), build.nn.cos(x))


def hyperbolic(build: Builder, x: Value, op: str) -> Value:
    """(exp(x) - exp(-x)) / 2 for "sinh", their sum for "cosh"."""
    up, down = build.nn.exp(x), build.nn.exp(scaled(build, x, -1))
    return scaled(build, (build.nn.sub if op == "sinh" else build.nn.add)(up, down), 0.5)


def arc(build: Builder, x: Value, op: str) -> Value:
    """atan(x / sqrt(1 - x^2)) for "asin", pi / 2 less that for "acos"."""
    root = build.nn.sqrt(build.nn.sub(number(build, 1), build.nn.mul(x, x)))
    made = build.nn.atan(build.nn.div(x, root))
    return made if op == "asin" else build.nn.sub(number(build, math.pi / 2), made)


def area(build: Builder, x: Value, op: str) -> Value:
    """The inverse hyperbolic functions: of |x| with the sign of x for "asinh", so that nothing cancels."""
    one = number(build, 1)
    if op == "atanh":
        return scaled(build, build.nn.log(build.nn.div(build.nn.add(one, x), build.nn.sub(one, x))), 0.5)
    square = build.nn.mul(x, x)
    if op == "acosh":
        return build.nn.log(build.nn.add(x, build.nn.sqrt(build.nn.sub(square, one))))
    root = build.nn.sqrt(build.nn.add(square, one))
    return build.nn.mul(build.nn.log(build.nn.add(build.nn.abs(x), root)), build.nn.sign(x))


def one_side(build: Builder, x: Value, diagonal: int, *, lower: bool) -> Value:
    """x on one side of a diagonal of the last two dimensions, that diagonal included, and 0 on the other."""
    rows, columns = x.type.shape[-2:]
    last = diagonal - (not lower)
    if isinstance(rows, int) and isinstance(columns, int):
        mask = build.constant(np.tri(rows, columns, last) > 0, "triangle")
    else:
        row, column = (build.nn.arange(x, axis=x.type.rank - i) for i in (2, 1))
        ends = build.nn.add(build.nn.reshape(row, shape=(-1, 1)), number(build, last, "i64"))
        mask = build.nn.less_equal(column, ends)
    zero = number(build, 0, x.type.dtype)
    return build.nn.where(mask, *((x, zero) if lower else (zero, x)))


def one_hot_conditions(build: Builder, indices: Value, classes: int, axis: int = -1) -> Value:
    """Conditions: whether a class, counted along a new axis, is that of the index."""
    rank = indices.type.rank + 1
    axis %= rank
    shape = indices.type.shape
    apart = reshaped(build, indices, (*shape[:axis], 1, *shape[axis:]))
    numbers = np.arange(classes, dtype=indices.type.numpy).reshape(-1, *(1,) * (rank - 1 - axis))
    return build.nn.equal(apart, build.constant(numbers, "classes"))


def parts(build: Builder, x: Value, axis: int, sizes: list[int]) -> list[Value]:
    """x cut along an axis into parts of these sizes."""
    ends = np.cumsum(sizes)
    if ends[-1] != x.type.shape[axis]:
        raise TypeMismatch(f"parts of {sizes} are not all of axis {axis} of {x.type}")
    return [
        build.nn.slice(x, axis=axis, start=int(end) - size, end=int(end)) for size, end in zip(sizes, ends, strict=True)
    ]
