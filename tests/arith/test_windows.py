from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgraph.arith import windows


@given(st.data())
def test_windows_are_the_slices_they_stand_for(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    axes = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731  # drawn often
    size, kernel, stride, dilation = axes(5, 8), axes(1, 3), axes(1, 3), axes(1, 2)
    first_axis = data.draw(st.integers(0, 2))
    last = data.draw(st.integers(0, 1))
    x = np.arange(2**first_axis * np.prod(size) * 3**last).reshape((2,) * first_axis + size + (3,) * last)
    view = windows.windows(x, kernel, stride, dilation, first_axis)
    out = windows.pooled_shape(size, kernel, stride, dilation=dilation)
    assert view.shape == (2,) * first_axis + out + (3,) * last + kernel
    assert not view.flags.writeable
    for position in np.ndindex(*out):
        region = tuple(
            slice(p * s, p * s + (k - 1) * d + 1, d)
            for p, s, k, d in zip(position, stride, kernel, dilation, strict=True)
        )
        window = x[(slice(None),) * first_axis + region]
        got = view[(slice(None),) * first_axis + position]
        axis = tuple(range(first_axis, first_axis + rank))
        assert np.array_equal(got, np.moveaxis(window, axis, range(-rank, 0)))


def test_padded_in_onnx_order_and_without_a_copy() -> None:
    x = np.arange(6).reshape(1, 2, 3, 1)
    expected = np.full((1, 2 + 1 + 3, 3 + 2 + 4, 1), 9)
    expected[:, 1:3, 2:5] = x
    assert np.array_equal(windows.padded(x, (1, 2, 3, 4), 9, first_axis=1), expected)
    assert windows.padded(x, (0, 0, 0, 0), 9, first_axis=1) is x


def brute_force_count(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int, ceil: bool) -> int:
    """Windows that fit; with `ceil` also those that start inside the input or the padding before it."""
    fits = [i for i in range(100) if i * stride + dilation * (kernel - 1) < size + begin + end]
    if not ceil or len(fits) == 0:
        return len(fits)
    leftover = (len(fits) - 1) * stride + dilation * (kernel - 1) + 1 < size + begin + end
    return len(fits) + (leftover and len(fits) * stride < size + begin)


@given(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(0, 2), st.integers(1, 2),
    st.booleans(),
)  # fmt: skip
def test_pooled_shape(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int, ceil: bool) -> None:
    if max(begin, end) > kernel // 2 or size + begin + end < dilation * (kernel - 1) + 1:
        return  # outside what torch allows
    (count,) = windows.pooled_shape((size,), (kernel,), (stride,), (begin, end), (dilation,), ceil)
    assert count == brute_force_count(size, kernel, stride, begin, end, dilation, ceil)
    if ceil:
        pads = windows.window_pads((size,), (kernel,), (stride,), (begin, end), (dilation,), (count,))
        view = windows.windows(np.zeros(size + sum(pads)), (kernel,), (stride,), (dilation,), first_axis=0)
        assert view.shape[0] >= count
        assert pads[0] == begin
        assert pads[1] >= end


def test_pooled_shape_is_zero_where_the_kernel_does_not_fit() -> None:
    assert windows.pooled_shape((2, 5), (3, 3), (1, 1)) == (0, 3)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", range(3, 12))
def test_pooled_shape_equals_torch(size: int, stride: int) -> None:
    torch = pytest.importorskip("torch")
    for kernel in (1, 2, 3):
        for pad in range(kernel // 2 + 1):
            for ceil in (False, True):
                pooled = torch.nn.functional.max_pool1d(torch.zeros(1, 1, size), kernel, stride, pad, 1, ceil)
                assert windows.pooled_shape((size,), (kernel,), (stride,), (pad, pad), ceil_mode=ceil) == (
                    pooled.shape[-1],
                )
