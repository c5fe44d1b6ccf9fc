from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from qgraph.targets.onnxruntime import pair_safe

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-1, 1, width=32) | st.sampled_from([0.5, -0.5, 1.0])
MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=FLOATS)


def quantize(weight: NDArray[np.floating], scale: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.rint(weight / scale[:, None]).astype(np.int64)


@given(MATRICES)
def test_no_pair_can_saturate_whatever_the_precision_of_the_division(weight: NDArray[np.float32]) -> None:
    scale = pair_safe.pair_safe_scale(weight, 0)
    for quotient in (quantize(weight, scale), quantize(weight.astype(np.float64), scale)):
        assert np.abs(quotient).max() <= 127
        assert not pair_safe.saturating_pairs(quotient.astype(np.int8)).any()


@given(MATRICES, st.sampled_from([1, 7, 127]))
def test_the_scale_is_the_smallest_of_the_formula(weight: NDArray[np.float32], quant_max: int) -> None:
    rows = np.pad(weight.astype(np.float64), ((0, 0), (0, weight.shape[1] % 2))).reshape(weight.shape[0], -1, 2)
    sums = [np.maximum(sign * rows, 0).sum(axis=2).max(axis=1) / 127 for sign in (1, -1)]
    expected = np.maximum.reduce([np.abs(rows).max(axis=(1, 2)) / quant_max, *sums])
    scale = pair_safe.pair_safe_scale(weight, 0, quant_max)
    normal = expected >= np.finfo(np.float32).tiny
    assert np.array_equal(scale[normal], expected.astype(np.float32)[normal])
    assert (scale > 0).all()


@given(st.integers(-128, 127), st.integers(-128, 127))
def test_saturating_pairs_finds_exactly_the_pairs_that_some_input_saturates(first: int, second: int) -> None:
    worst = [a * first + b * second for a in (0, 255) for b in (0, 255)]
    saturates = max(worst) > 32767 or min(worst) < -32768
    weight = np.array([[1, 1, first, second], [first, 0, 0, second]], np.int8)
    assert pair_safe.saturating_pairs(weight).tolist() == [saturates, False]


def test_an_odd_last_weight_stands_alone() -> None:
    assert not pair_safe.saturating_pairs(np.array([[1, 1, 127]], np.int8)).any()
    assert pair_safe.pair_safe_scale(np.array([[0.0, 0.0, 127.0]])).tolist() == [1.0]


def test_pairs_follow_the_other_axes_in_order() -> None:
    weight = np.zeros((2, 2, 3), np.float32)  # [K0, O, K1]
    weight[0, 1, 2] = weight[1, 1, 0] = 127  # positions 2 and 3: one pair
    assert pair_safe.pair_safe_scale(weight, axis=1).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 3e38])
def test_extreme_magnitudes(value: float) -> None:
    weight = np.full((1, 1), value, np.float32)
    scale = pair_safe.pair_safe_scale(weight)
    assert np.isfinite(scale).all()
    assert np.abs(quantize(weight, scale)).max() <= 127
