"""How a constant changed: how many elements, by how much, and whether slices only changed places."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qgraph.ir import Array, Value


@dataclass(frozen=True)
class ConstantChange:
    """`changed` of `size` elements differ, the stored numbers by up to `max_abs`; `relative`: the norm of the
    difference over that of the first (None where that is 0); `permuted_axis`: the axis along which slices changed
    places and nothing else did."""

    changed: int
    size: int
    max_abs: float
    relative: float | None
    permuted_axis: int | None

    def __str__(self) -> str:
        relative = "" if self.relative is None else f" ({100 * self.relative:.3g} % of its norm)"
        text = f"{self.changed} of {self.size} elements differ, by up to {self.max_abs:.3g}{relative}"
        return text if self.permuted_axis is None else f"{text}: permuted along axis {self.permuted_axis}"


def same_constant(a: Value, b: Value) -> bool:
    """Whether two constants have the same type and bits; names do not count."""
    return a.type == b.type and (a.data is b.data or np.array_equal(a.data, b.data, equal_nan=a.type.is_float))


def constant_change(a: Array, b: Array) -> ConstantChange | None:
    """How an array of the same shape differs; None where it does not. Two NaN are equal."""
    if a is b:
        return None
    differs = a != b
    changed = int(np.count_nonzero(differs))
    if not changed:
        return None
    old, new = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    error = new - old
    max_abs, norm = float(np.abs(error).max()), math.sqrt(float(old @ old))
    if not math.isfinite(max_abs):
        return _with_non_finite(a, b, differs)
    relative = math.sqrt(float(error @ error)) / norm if norm else None
    return ConstantChange(changed, int(a.size), max_abs, relative, _permuted_axis(a, b))


def _with_non_finite(a: Array, b: Array, differs: Array) -> ConstantChange | None:
    """The same where NaN or infinities occur: two NaN are equal, and only finite differences count for the measures."""
    differs = differs & ~(np.isnan(a) & np.isnan(b))
    changed = int(np.count_nonzero(differs))
    if not changed:
        return None
    finite = differs & np.isfinite(a) & np.isfinite(b)
    whole = finite.sum() == changed
    error = np.abs(a.astype(np.float64) - b.astype(np.float64), where=finite, out=np.zeros(a.shape))
    return ConstantChange(changed, int(a.size), float(error.max()) if whole else math.inf, None, _permuted_axis(a, b))


def _permuted_axis(a: Array, b: Array) -> int | None:
    """The axis along which the slices of `b` are those of `a` in another order."""
    if a.dtype != b.dtype or not np.array_equal(np.sort(a, axis=None), np.sort(b, axis=None)):
        return None
    for axis in range(a.ndim):
        slices = [sorted(part.tobytes() for part in np.moveaxis(array, axis, 0)) for array in (a, b)]
        if slices[0] == slices[1]:
            return axis
    return None
