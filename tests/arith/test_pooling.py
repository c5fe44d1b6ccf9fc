from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qgraph.arith import pooling
from qgraph.arith.windows import padded, windows

DTYPES = st.sampled_from([np.int8, np.uint8, np.int16])


@given(st.data(), DTYPES, st.integers(0, 2**32 - 1))
def test_pools_equal_their_definition(data: st.DataObject, dtype: type[np.integer], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = data.draw(st.integers(1, 3))
    axes = lambda low, high: tuple(int(v) for v in rng.integers(low, high + 1, rank))  # noqa: E731  # drawn often
    size, kernel, stride, dilation, pads = axes(2, 7), axes(1, 4), axes(1, 3), axes(1, 2), axes(0, 3) + axes(0, 3)
    whole = [s + pads[i] + pads[i + rank] for i, s in enumerate(size)]
    assume(all(w >= d * (k - 1) + 1 for w, k, d in zip(whole, kernel, dilation, strict=True)))
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max + 1, (2, *size, 3)).astype(dtype)
    kernel_axes = tuple(range(-rank, 0))

    view = windows(padded(x, pads, info.min, 1), kernel, stride, dilation, 1)
    highest = pooling.max_pool(x, kernel, stride, pads, dilation)
    assert highest.dtype == dtype
    assert np.array_equal(highest, view.max(axis=kernel_axes))

    sums, counts = pooling.window_sum(x, kernel, stride, pads)
    view = windows(padded(x, pads, 0, 1), kernel, stride, None, 1)
    assert sums.dtype == counts.dtype == np.int32
    assert np.array_equal(sums, view.astype(np.int64).sum(axis=kernel_axes))
    inside = windows(padded(np.ones((*size, 1), np.int32), pads, 0, 0), kernel, stride, None, 0)
    assert np.array_equal(counts, inside.sum(axis=kernel_axes))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (255, 257)])
def test_global_sums_of_extremes(dtype: type[np.integer], size: tuple[int, int]) -> None:
    for value in (np.iinfo(dtype).min, np.iinfo(dtype).max):
        x = np.full((2, *size, 3), value, dtype)
        sums, counts = pooling.window_sum(x, size, (1, 1))
        assert sums.shape == (2, 1, 1, 3)
        assert set(sums.ravel().tolist()) == {value * size[0] * size[1]}
        assert counts.tolist() == [[[size[0] * size[1]]]]


def test_a_window_whose_sum_may_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="may not fit int32"):
        pooling.window_sum(np.zeros((1, 256, 256, 1), np.int16), (256, 256), (1, 1))


def test_the_input_is_left_as_it_was() -> None:
    x = np.arange(-8, 8, dtype=np.int8).reshape(1, 4, 4, 1)
    before = x.copy()
    pooling.max_pool(x, (2, 2), (1, 1))
    pooling.window_sum(x, (2, 2), (1, 1))
    pooling.max_pool(x, (1, 1), (1, 1))[...] = 0
    assert np.array_equal(x, before)
