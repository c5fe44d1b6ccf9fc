"""What each node loses: the error that it inherits and the one that it makes, and where that comes from.

Of a node that reads x', which should be x, and whose op f has the parameters w, rounded to w', and the grid Q:

    inherited   f(x', w) - f(x, w)             what was wrong before
    own         Q(f(x', w')) - f(x', w)        of that: weights f(x', w') - f(x', w), and the grid's Q(y) - y, which
                                               is clipped where y lies beyond its ends, rounded elsewhere
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgraph.accuracy.two_runs import Runs, TwoRuns, Variant, decibels, difference, joined, power
from qgraph.accuracy.units import Unit
from qgraph.ir import Array, Node
from qgraph.ops.quant import per_axis

SATURATED = 0.01
"""A channel is saturated where more of its elements than this lie beyond the grid."""
OUTLYING = 8.0
"""A channel stands out whose largest magnitude is so many times that of the channel in the middle."""


@dataclass(frozen=True)
class Grid:
    """How the values of a node lie on the grid of its result; shares are from 0 to 1, channels are numbers.

    `clipped`: of the elements, beyond the ends; `used`: of the codes, between the lowest and the highest that occur;
    channels that are `dead` have one value only where the float model has several; `saturated` ones and those that are
    `outlying` see the constants.
    """

    bits: float
    clipped: float
    used: float
    dead: tuple[int, ...]
    saturated: tuple[int, ...]
    outlying: tuple[int, ...]


@dataclass(frozen=True)
class Loss:
    """SQNR in dB, of the node's result: with everything, of what it inherits alone, of what it makes itself.

    `channels_db`: the same of what it makes itself, were all channels of one size: a large one hides no small one.
    `weights`, `clipping`, `rounding`: shares of the power of its own error. Infinite where there is no error.
    """

    total_db: float
    inherited_db: float
    own_db: float
    channels_db: float
    weights: float
    clipping: float
    rounding: float
    grid: Grid | None


def loss_of(runs: TwoRuns, unit: Unit) -> Loss:
    """The loss of a unit."""
    real, got = runs.real[unit.value], runs.rounded[unit.value if unit.mark is None else unit.mark.result]
    before = runs.rounded[unit.value]
    if unit.node is None:
        ideal = before
    else:
        ideal = runs.result_of(unit.node, Variant(frozenset(unit.parameters), data=runs.own))
        ideal = ideal if unit.value is unit.node.results[0] else before  # parameters count with the first result
    signal = power(real)
    of_weights = power(difference(before, ideal))
    clipping, rounding = (0.0, 0.0) if unit.mark is None else _of_grid(unit.mark, before, got)
    whole = of_weights + clipping + rounding or 1.0
    return Loss(
        decibels(signal, power(difference(got, real))),
        decibels(signal, power(difference(ideal, real))),
        decibels(signal, power(difference(got, ideal))),
        _by_channels(joined(real), joined(difference(got, ideal)), unit.channel_axis),
        of_weights / whole,
        clipping / whole,
        rounding / whole,
        None if unit.mark is None else _grid(unit, unit.mark, joined(before), joined(got), joined(real)),
    )


def bounds(mark: Node) -> tuple[Array, Array, Array]:
    """The step of a fake-quantization's grid, its lowest and its highest value, each broadcasting against its
    result."""
    rank, axis = mark.result.type.rank, mark.attrs["axis"]
    scale, zero = (per_axis(mark.operand(i).data.astype(np.float64), rank, axis) for i in (1, 2))
    low, high = mark.attrs["range"]
    return scale, (low - zero) * scale, (high - zero) * scale


def _of_grid(mark: Node, before: Runs, got: Runs) -> tuple[float, float]:
    """The power of what is clipped, and of what is rounded."""
    clipping = rounding = 0.0
    for x, y, beyond in zip(before, got, (_beyond(mark, x) for x in before), strict=True):
        error = np.square(np.asarray(y, np.float64) - x)
        clipping += float(error[beyond].sum())
        rounding += float(error[~beyond].sum())
    return clipping, rounding


def _beyond(mark: Node, x: Array) -> Array:
    """Which elements lie beyond the ends of the grid by more than half a step."""
    step, low, high = bounds(mark)
    return np.asarray((x < low - step / 2) | (x > high + step / 2))


def _grid(unit: Unit, mark: Node, before: Array, got: Array, real: Array) -> Grid:
    low, high = mark.attrs["range"]
    step, lowest, _ = bounds(mark)
    codes = (got.astype(np.float64) - lowest) / step
    beyond = _beyond(mark, before)
    rows = [_channels(each, unit.channel_axis) for each in (got, real, beyond, np.abs(real))]
    dead = (np.ptp(rows[0], axis=1) == 0) & (np.ptp(rows[1], axis=1) > 0)
    saturated = rows[2].mean(axis=1) > SATURATED
    return Grid(
        bits=float(np.log2(high - low + 1)),
        clipped=float(beyond.mean()),
        used=float((np.ptp(codes) + 1) / (high - low + 1)),
        dead=_numbers(dead),
        saturated=_numbers(saturated),
        outlying=_numbers(_outlying(rows[3].max(axis=1))) if mark.attrs["axis"] is None else (),
    )


def _by_channels(real: Array, error: Array, axis: int) -> float:
    """SQNR of channels that are brought to one size; those that are dead do not count."""
    signal, noise = (np.square(_channels(each, axis).astype(np.float64)).sum(axis=1) for each in (real, error))
    alive = signal > 0
    return decibels(1.0, float((noise[alive] / signal[alive]).mean())) if alive.any() else float("inf")


def _channels(array: Array, axis: int) -> Array:
    """One row for each channel; one alone where there are none."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) if array.ndim > 1 else array.reshape(1, -1)


def _outlying(largest: Array) -> Array:
    """Which of several channels, by their largest magnitude, stand out."""
    middle = float(np.median(largest))
    return largest > OUTLYING * middle if middle > 0 and len(largest) > 2 else np.zeros(len(largest), bool)


def _numbers(where: Array) -> tuple[int, ...]:
    return tuple(int(number) for number in np.flatnonzero(where))
