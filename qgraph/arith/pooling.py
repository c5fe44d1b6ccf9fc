"""Maximum and sum over sliding windows of channels-last integers, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.windows import padded, pooled_shape

Integer = TypeVar("Integer", bound=np.integer)


def max_pool(
    x: NDArray[Integer],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
) -> NDArray[Integer]:
    """The maximum over each window of x [N, *S, C], as [N, *S', C] in x's dtype.

    `pads`: the beginnings of all spatial axes, then their ends; padding counts as the dtype's lowest value.  For
    `ceil_mode` use the pads of `windows.window_pads`.
    """
    rank = len(kernel)
    x = padded(x, pads or (0,) * (2 * rank), int(np.iinfo(x.dtype).min), first_axis=1)
    for axis in _cheapest_first(kernel, stride):
        step = (dilation or (1,) * rank)[axis]
        taps = _taps(x, axis + 1, kernel[axis], stride[axis], step)
        result = taps[0].copy()
        for tap in taps[1:]:
            np.maximum(result, tap, out=result)
        x = result
    return x


def window_sum(
    x: NDArray[np.integer],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sums [N, *S', C] over the windows of x [N, *S, C], and counts [*S', 1] of a window's elements inside the input.

    `pads` as in `max_pool`; padding adds nothing to the sum or the count.
    Exact in int32: |x| <= 2**15 and fewer than 2**16 elements a window.  Windows of more raise ValueError.
    """
    rank = len(kernel)
    pads = pads or (0,) * (2 * rank)
    if int(np.prod(kernel, dtype=np.int64)) >= 2**16:
        raise ValueError(f"a window of {tuple(kernel)} has 2**16 elements or more, so its sum may not fit int32")
    spatial = x.shape[1:-1]
    counts = _counts(spatial, kernel, stride, pads)
    if tuple(kernel) == spatial and not any(pads):
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        return _sum_rows(flat).reshape(x.shape[0], *(1,) * rank, x.shape[-1]), counts
    total = padded(x, pads, 0, first_axis=1)
    for axis in _cheapest_first(kernel, stride):
        taps = _taps(total, axis + 1, kernel[axis], stride[axis], 1)
        result = taps[0].astype(np.int32)
        for tap in taps[1:]:
            result += tap
        total = result
    return total.astype(np.int32, copy=False), counts


def _counts(
    spatial: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int]
) -> NDArray[np.int32]:
    """The number of elements of each window that lie inside the input, [*S', 1]."""
    rank = len(kernel)
    shape = pooled_shape(spatial, kernel, stride, pads)
    counts = np.ones((*shape, 1), np.int32)
    for axis, size in enumerate(spatial):
        start = np.arange(shape[axis]) * stride[axis] - pads[axis]
        inside = np.minimum(start + kernel[axis], size) - np.maximum(start, 0)
        counts *= np.maximum(inside, 0).astype(np.int32).reshape(-1, *(1,) * (rank - axis))
    return counts


def _sum_rows(x: NDArray[np.integer]) -> NDArray[np.int32]:
    """Sum over the middle axis of [N, R, C]: a product with ones in float32 where 2**15 * R < 2**24 or by int32."""
    if np.iinfo(x.dtype).bits == 8 and x.shape[1] < 2**16:
        ones = np.ones((1, x.shape[1]), np.float32)  # 255 * R < 2**24: every partial sum is exact
        total: NDArray[np.float32] = np.matmul(ones, x.astype(np.float32))[:, 0]
        return total.astype(np.int32)
    return np.asarray(x.sum(axis=1, dtype=np.int32), np.int32)


def _taps(x: NDArray[Integer], axis: int, kernel: int, stride: int, dilation: int) -> list[NDArray[Integer]]:
    """For each position of the kernel on `axis`, the elements that the windows have there."""
    (count,) = pooled_shape((x.shape[axis],), (kernel,), (stride,), dilation=(dilation,))
    before = (slice(None),) * axis
    starts = (position * dilation for position in range(kernel))
    reach = max(count - 1, 0) * stride + 1
    return [x[(*before, slice(start, start + reach if count else start, stride))] for start in starts]


def _cheapest_first(kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """The axes by falling stride, so that later axes work on what is left; equal ones from the first."""
    return sorted(range(len(kernel)), key=lambda axis: -stride[axis])
