"""A program on long rows: what is known of its operands and of the range of x is made use of once, and kept.

Constants are repeated to rows of whole channel groups that stay within a core's cache, stages compute in place, what
the ranges show to do nothing is left out, and a rounding adds its constant where that cannot overflow.  Whatever has no
such form runs as it stands in `stages_words`, on rows too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.channel_rows import ChannelRows, cut
from qgraph.arith.stages_widths import Interval, Overflow
from qgraph.arith.stages_words import (
    ARITHMETIC,
    FARTHEST,
    Arithmetic,
    Clamp,
    Fit,
    Keep,
    Scope,
    ShiftLeft,
    ShiftRight,
    Table,
    Take,
)

if TYPE_CHECKING:
    from qgraph.arith.stages import Program, Stage, StageRange

Array = NDArray[Any]
Step = Callable[[Array, Scope], Array]
"""Takes a row of int64, which it may write to, and gives the next one."""

SAFE = 1 << 61
"""Values within it can take a rounding constant, which is at most 2**62."""


class Rows:
    """A program with constants by name, scalars or [C], and tables; other operands have the shape of x.

    `ranges`: those of the program for these constants, an x within the interval, and whatever the others are.
    """

    def __init__(
        self, program: Program, channels: int, constants: Mapping[str, Array], ranges: list[StageRange], x: Interval
    ) -> None:
        self.channels = channels
        self.reads_x = any("x" in stage.names for stage in program.stages)
        tables = {stage.word.name for stage in program.stages if isinstance(stage.word, Table)}
        self.tables = {name: array for name, array in constants.items() if name in tables}
        self.constants = {name: _scalar(array) for name, array in constants.items() if name not in tables}
        before = [x, *(Interval(each.low, each.high) for each in ranges)]
        pairs = zip(program.stages, before, ranges, strict=False)
        self.steps = [step for stage, v, after in pairs for step in _steps(stage, v, after.exact, self.constants)]

    def apply(self, x: Array, operands: Mapping[str, Array], dtype: Any) -> Array:
        """The value after the last stage, in dtype; x, and operands that are no constants, [..., C] of one shape."""
        flat, made = x.reshape(-1), np.empty(x.size, dtype)
        rows = ChannelRows(self.channels, x.size)
        others = operands.keys() - self.constants.keys() - self.tables.keys()
        columns = {name: np.ascontiguousarray(operands[name]).reshape(-1) for name in others}
        repeated = {name: rows.repeated(array) for name, array in self.constants.items()}
        memory = np.empty(rows.length, np.int64)
        for part in rows:
            size = part.stop - part.start
            scope: Scope = {name: cut(array, size) for name, array in repeated.items()}
            scope |= {name: column[part].astype(np.int64) for name, column in columns.items()} | self.tables
            value = memory[:size]
            value[...] = flat[part]
            scope["x"] = value.copy() if self.reads_x else value
            for step in self.steps:
                value = step(value, scope)
            made[part] = value
        return made.reshape(x.shape)


def _scalar(array: Array) -> Array:
    """A constant in int64, without dimensions where all channels have the same."""
    wide = array.astype(np.int64) if array.dtype.kind in "iu" else array
    return wide.reshape(()) if wide.size == 1 else wide


def _steps(stage: Stage, before: Interval, exact: Interval, constants: dict[str, Array]) -> list[Step]:
    """What a stage does to a row; it may add to the constants."""
    word, overflow = stage.word, stage.overflow
    if isinstance(word, Keep):
        return [partial(_kept, word)]
    if isinstance(word, Take) and stage.condition is None:
        return [partial(_taken, word), *([] if overflow is None else [partial(_fitted, overflow)])]
    if stage.condition is not None or exact.low.dtype.kind == "f" or before.low.dtype.kind == "f":
        return [stage.apply]
    ends: list[Step] = [] if overflow is None or np.all(overflow.holds(exact)) else [partial(_fitted, overflow)]
    if isinstance(word, Arithmetic):
        return [partial(_arithmetic, word), *ends]
    if isinstance(word, Clamp):
        low, high = (
            partial(_arithmetic, Arithmetic(*each)) for each in (("maximum", word.low), ("minimum", word.high))
        )
        return [low, high, *ends]
    if isinstance(word, Fit):
        return [*([] if np.all(word.overflow.holds(before)) else [partial(_fitted, word.overflow)]), *ends]
    if isinstance(word, ShiftLeft | ShiftRight):
        return _shift_steps(stage, word, before, ends, constants)
    return [stage.apply]


def _shift_steps(
    stage: Stage, word: ShiftLeft | ShiftRight, before: Interval, ends: list[Step], constants: dict[str, Array]
) -> list[Step]:
    amount = np.asarray(constants.get(word.amount, -1) if isinstance(word.amount, str) else word.amount)
    if np.all(amount == 0):
        return ends
    if np.any(amount <= 0) or np.any(amount > FARTHEST):
        return [stage.apply]
    if isinstance(word, ShiftLeft):
        return [partial(_shifted_left, word), *ends]
    if np.all((before.low > -SAFE) & (before.high < SAFE)) and np.all(amount < FARTHEST):
        return [*_rounded(word, amount, f"{stage.number} addend", constants), *ends]
    return [stage.apply]


def _of(operand: str | int | float, scope: Scope) -> Any:
    return scope[operand] if isinstance(operand, str) else operand


def _kept(word: Keep, value: Array, scope: Scope) -> Array:
    """The value goes on as another array, since steps write to it."""
    scope[word.name] = value
    return value.copy()


def _taken(word: Take, value: Array, scope: Scope) -> Array:
    return np.array(word.apply(value, scope))


def _arithmetic(word: Arithmetic, value: Array, scope: Scope) -> Array:
    function: Any = ARITHMETIC[word.word][0]
    result: Array = function(value, _of(word.operand, scope), out=value)
    return result


def _shifted_left(word: ShiftLeft, value: Array, scope: Scope) -> Array:
    return np.asarray(np.left_shift(value, _of(word.amount, scope), out=value))


def _fitted(overflow: Overflow, value: Array, scope: Scope) -> Array:
    width, (least, greatest) = overflow.width, overflow.range
    if overflow.mode == "wrap" and width.signed:
        np.left_shift(value, 64 - width.bits, out=value)
        return np.right_shift(value, 64 - width.bits, out=value)
    if overflow.mode == "wrap":
        return np.bitwise_and(value, width.high, out=value)
    if overflow.mode == "saturate to zero":
        return overflow.apply(value)
    np.maximum(value, least, out=value)
    return np.minimum(value, greatest, out=value)


ROUNDING_STEPS: dict[str, tuple[int, int, int]] = {  # of 2**amount - 1, of half, and of the sign (-1 of negatives)
    "floor": (0, 0, 0),
    "ceil": (1, 0, 0),
    "half_up": (0, 1, 0),
    "half_away": (0, 1, 1),
}
"""What is added before a shift to the right so that its floor is the rounding, where amount > 0."""


def _rounded(word: ShiftRight, amount: Array, name: str, constants: dict[str, Array]) -> list[Step]:
    """The steps of a rounding; what they add is a constant of that name."""
    if word.rounding == "half_even":
        constants[name] = (np.int64(1) << (amount - 1)) - 1
        return [partial(_odd_added, word), partial(_arithmetic, Arithmetic("add", name)), partial(_shifted_right, word)]
    if word.rounding not in ROUNDING_STEPS:
        return [word.apply]
    mask, half, sign = ROUNDING_STEPS[word.rounding]
    constants[name] = mask * ((np.int64(1) << amount) - 1) + half * (np.int64(1) << (amount - 1))
    added: list[Step] = [partial(_arithmetic, Arithmetic("add", name))] if mask or half else []
    return [*([_sign_added] if sign else []), *added, partial(_shifted_right, word)]


def _odd_added(word: ShiftRight, value: Array, scope: Scope) -> Array:
    """1 more where the floor of the quotient is odd."""
    return np.asarray(np.add(value, (value >> _of(word.amount, scope)) & 1, out=value))


def _sign_added(value: Array, scope: Scope) -> Array:
    return np.asarray(np.add(value, value >> 63, out=value))


def _shifted_right(word: ShiftRight, value: Array, scope: Scope) -> Array:
    return np.asarray(np.right_shift(value, _of(word.amount, scope), out=value))
