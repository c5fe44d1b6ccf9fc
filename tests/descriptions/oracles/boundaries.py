"""Rows of values on both sides of every rounding step, at the ends of widths, and at random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def near_steps(factor: Fraction, bits: int, codes: Iterable[int] = range(-130, 131)) -> list[int]:
    """Integers of so many bits whose products with the factor lie at a code or half way between two, and beside."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    found = {low, low + 1, -1, 0, 1, high - 1, high}
    for twice in codes:
        exact = Fraction(twice, 2) / factor
        found |= {int(exact) + d for d in (-1, 0, 1)}
    return sorted(v for v in found if low <= v <= high)


def rows(values: Sequence[tuple[int, ...]], most: int, seed: int = 0) -> Rows:
    """At most so many of the rows, chosen at random."""
    table = np.array(sorted(set(values)), np.int64)
    if len(table) > most:
        table = table[np.sort(np.random.default_rng(seed).choice(len(table), most, replace=False))]
    return table
