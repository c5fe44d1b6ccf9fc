"""Sliding windows, padding and output sizes, for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Element = TypeVar("Element", bound=np.generic)


def windows(
    x: NDArray[Element],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] | None = None,
    first_axis: int = 2,
) -> NDArray[Element]:
    """Read-only view [.., *out, .., *kernel] of the windows over the spatial axes that begin at `first_axis`.

    The window at out position i takes x at i * stride + k * dilation.  Axes before and after the spatial ones stay
    where they are; the kernel's axes come last.

    >>> windows(np.arange(5), (3,), (2,), first_axis=0).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    rank = len(kernel)
    dilation = dilation or (1,) * rank
    spatial = slice(first_axis, first_axis + rank)
    out = pooled_shape(x.shape[spatial], kernel, stride, dilation=dilation)
    steps = x.strides[spatial]
    shape = x.shape[:first_axis] + out + x.shape[first_axis + rank :] + tuple(kernel)
    strides = (
        *x.strides[:first_axis],
        *(step * s for step, s in zip(steps, stride, strict=True)),
        *x.strides[first_axis + rank :],
        *(step * d for step, d in zip(steps, dilation, strict=True)),
    )
    if not x.flags.c_contiguous or 0 in shape:
        return as_strided(x, shape, strides, writeable=False)
    view: NDArray[Element] = np.ndarray(shape, x.dtype, x, 0, strides)  # ten times as fast
    view.flags.writeable = False
    return view


def padded(x: NDArray[Element], pads: Sequence[int], value: float, first_axis: int = 2) -> NDArray[Element]:
    """The array x with `value` around its spatial axes, which begin at `first_axis`; x itself if no pad is above 0.

    `pads`: the beginnings of all spatial axes, then their ends, all >= 0 (ONNX order).

    >>> padded(np.array([7, 8]), (1, 2), 0, first_axis=0).tolist()
    [0, 7, 8, 0, 0]
    """
    if not any(pads):
        return x
    rank = len(pads) // 2
    shape, inner = list(x.shape), [slice(None)] * x.ndim
    for axis, (begin, end) in enumerate(zip(pads[:rank], pads[rank:], strict=True), first_axis):
        inner[axis] = slice(begin, begin + shape[axis])
        shape[axis] += begin + end
    result = np.full(shape, value, x.dtype)
    result[tuple(inner)] = x
    return result


def padded_block(
    x: NDArray[np.integer], images: int, pads: Sequence[int], value: int, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Memory for some padded images of x [N, *S, C], filled with value, and the view of it where the images go."""
    rank = len(pads) // 2
    spatial = x.shape[1:-1]
    sizes = (size + begin + end for size, begin, end in zip(spatial, pads[:rank], pads[rank:], strict=True))
    block = np.full((images, *sizes, x.shape[-1]), value, dtype)
    inner = tuple(slice(begin, begin + size) for begin, size in zip(pads[:rank], spatial, strict=True))
    return block, block[(slice(None), *inner)]


def pooled_shape(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """How many windows fit along each spatial axis of `size`; 0 where the kernel is larger than the padded axis.

    `pads` in ONNX order.  With `ceil_mode` a last window may reach over the end, provided that it starts inside the
    input or the padding before it: torch's rule (`pooling_output_shape` in aten/src/ATen/native/Pool.h).

    >>> pooled_shape((6, 6), (3, 3), (2, 2)), pooled_shape((6, 6), (3, 3), (2, 2), ceil_mode=True)
    ((2, 2), (3, 3))
    """
    rank = len(kernel)
    pads = pads or (0,) * (2 * rank)
    dilation = dilation or (1,) * rank
    counts = []
    for axis in range(rank):
        begin, end = pads[axis], pads[axis + rank]
        free = size[axis] + begin + end - dilation[axis] * (kernel[axis] - 1) - 1
        count = (free + (stride[axis] - 1 if ceil_mode else 0)) // stride[axis] + 1
        if ceil_mode and (count - 1) * stride[axis] >= size[axis] + begin:
            count -= 1
        counts.append(max(count, 0))
    return tuple(counts)


def window_pads(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    out: Sequence[int],
) -> tuple[int, ...]:
    """`pads` with the ends made long enough for `out` windows: those of `ceil_mode` may reach beyond the padding.

    >>> window_pads((6,), (3,), (2,), (0, 0), (1,), pooled_shape((6,), (3,), (2,), ceil_mode=True))
    (0, 1)
    """
    rank = len(kernel)
    ends = []
    for axis, count in enumerate(out):
        reach = (count - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1
        ends.append(max(pads[axis + rank], reach - size[axis] - pads[axis]))
    return (*pads[:rank], *ends)
