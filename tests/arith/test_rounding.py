from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgraph.arith import rounding
from tests.arith import plain_integers as plain

INT62 = st.integers(-(2**62) + 1, 2**62 - 1)


def exact_half_away(x: float) -> float:
    numerator, denominator = abs(x).as_integer_ratio()
    return math.copysign((2 * numerator + denominator) // (2 * denominator), x)


@given(st.floats(-(2.0**60), 2.0**60))
def test_round_half_away_is_exact_in_float64(x: float) -> None:
    assert rounding.round_half_away(np.array(x)) == exact_half_away(x)


@given(st.floats(-(2.0**30), 2.0**30, width=32))
def test_round_half_away_is_exact_in_float32(x: float) -> None:
    result = rounding.round_half_away(np.array([x], np.float32))
    assert result.dtype == np.float32
    assert result[0] == exact_half_away(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_of_every_tie_and_of_every_power_of_two(dtype: type[np.floating]) -> None:
    ties = np.concatenate([np.arange(0, 2000) + 0.5, 2.0 ** np.arange(-60, 60), 2.0 ** np.arange(0, 52) + 0.5])
    centre = ties.astype(dtype)
    x = np.concatenate([centre, np.nextafter(centre, dtype(0)), np.nextafter(centre, dtype(np.inf))])
    x = np.concatenate([x, -x])
    assert rounding.round_half_away(x).tolist() == [exact_half_away(float(v)) for v in x]


def test_round_half_even_takes_ties_to_even() -> None:
    assert rounding.round_half_even(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])).tolist() == [-2, -2, 0, 0, 2, 2]


@given(INT62, INT62.filter(bool))
def test_truncating_divide(a: int, b: int) -> None:
    assert int(rounding.truncating_divide(a, b)) == plain.truncate(a, b)


@given(st.integers(-(2**40), 2**40), st.integers(1, 2**20))
def test_divide_half_away(total: int, count: int) -> None:
    assert int(rounding.divide_half_away(total, count)) == plain.half_away(total, count)


def test_divide_half_away_on_every_small_window() -> None:
    total, count = np.meshgrid(np.arange(-600, 600), np.arange(1, 50))
    expected = [plain.half_away(int(t), int(n)) for t, n in zip(total.flat, count.flat, strict=True)]
    assert rounding.divide_half_away(total, count).ravel().tolist() == expected
