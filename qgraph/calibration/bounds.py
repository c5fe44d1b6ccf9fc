"""What the scale of an operand leaves of that of a result, after calibration and after every step of training.

A mean of next to nothing (of what was normalized) is no finer than its operand's steps can tell. An inverse root has
its pole, an example of zeros maybe, as the last code at the most: that of half a step of its operand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qgraph.ir import Node, Value
from qgraph.ops.quant import grid_of, maker_of
from qgraph.quantizers.arrays import Numbers, as_type, library_of

FINEST_MEAN = 2.0**-25
"""Of the scale of a mean to that of its operand: less is below every sum of codes divided by their number."""


def _of_mean(scale: Numbers, steps: Numbers, of_operand: Numbers) -> Numbers:
    library = library_of(scale)
    return library.maximum(scale, library.amax(of_operand, 0) * FINEST_MEAN)  # type: ignore[no-any-return]


def _of_inverse_root(scale: Numbers, steps: Numbers, of_operand: Numbers) -> Numbers:
    library = library_of(scale)
    least: Numbers = library.amax(as_type(of_operand, "float64"), 0) / 2
    most: Numbers = 1 / library.sqrt(least) / steps.min()
    return library.minimum(scale, as_type(most, "float32"))  # type: ignore[no-any-return]


BOUNDS: dict[str, Callable[[Any, Any, Any], Any]] = {"nn.mean": _of_mean, "nn.rsqrt": _of_inverse_root}
"""(scale, steps above zero, scale of the operand) -> the scale within its bound, of NumPy and torch alike."""


def bounded_by(mark: Node) -> tuple[str, Value] | None:
    """The op that made what is fake-quantized and the scale of its operand, which bounds that of the result; None where
    none does."""
    x = mark.operand(0)
    maker = x.producer if x.producer is None or x.producer.op == "nn.rsqrt" else maker_of(x)
    grid = grid_of(maker.operand(0)) if maker is not None and maker.op in BOUNDS else None
    return None if grid is None or maker is None else (maker.op, grid.operand(1))


def within(op: str, scale: Numbers, zero_point: Numbers, highest: int, of_operand: Numbers) -> Numbers:
    """A scale within the bound that its op has; `highest`: the last code."""
    made: Numbers = BOUNDS[op](scale, highest - zero_point, of_operand)
    return made
