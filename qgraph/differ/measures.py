"""Measures of the difference of two arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgraph.ir import Array

LSB_LIMIT = 8
"""A histogram counts differences of -8 or less, -7, ..., 8 or more steps."""


@dataclass(frozen=True)
class Comparison:
    """`sqnr_db`: 10 log10(sum a^2 / sum (a - b)^2), None where nothing differs, -inf for no signal; the largest
    absolute difference; cosine of the angle between both, None where one is 0 or not finite; `power`: sum of squared
    differences."""

    sqnr_db: float | None
    max_error: float
    cosine: float | None
    power: float


EQUAL = Comparison(None, 0.0, 1.0, 0.0)
"""No difference."""


def compare_arrays(a: Array, b: Array) -> Comparison:
    """How two arrays of the same shape compare, in float64; NaN in both is no difference, in one an infinite one."""
    x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.nan_to_num(np.where(same, 0.0, x - y), nan=np.inf, posinf=np.inf, neginf=-np.inf)
        power, signal, other = float(error @ error), float(x @ x), float(y @ y)
        norm = float(np.sqrt(signal * other))
        cosine = float(x @ y) / norm if 0 < norm < np.inf else None
    if power == 0:
        return Comparison(None, 0.0, cosine, 0.0)
    ratio = signal / power
    return Comparison(
        float(10 * np.log10(ratio)) if ratio > 0 else float("-inf"), float(np.abs(error).max()), cosine, power
    )


def lsb_histogram(a: Array, b: Array, step: float) -> tuple[int, ...]:
    """How many elements of `b - a` are -8 or less, -7, ..., 8 or more steps, rounded half to even."""
    steps = np.nan_to_num((b.astype(np.float64) - a.astype(np.float64)) / step)
    codes = np.clip(np.rint(steps), -LSB_LIMIT, LSB_LIMIT).astype(np.int64) + LSB_LIMIT
    return tuple(int(count) for count in np.bincount(codes.reshape(-1), minlength=2 * LSB_LIMIT + 1))
