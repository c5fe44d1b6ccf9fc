"""Exact integer accumulation: convolution, depthwise convolution and matrix product.

    acc = sum over the window of (x - x_zero_point) * (w - weight_zero_point) + bias

x is channels-last, of 8 or 16 bits; padding is real zero, that is the zero point.  The result is an accumulator as
`exactness` defines it: float32, int32 or int64 with the true integer sum; `as_int32` wraps it as a runtime would.

Products run in float32 BLAS where max|x| * sum|w| < 2**24 for every output channel, so that each partial sum is an
exact integer in any order, in float64 BLAS below 2**53, and in int64 beyond.  The raw x is multiplied, and
-x_zero_point * sum(w) joins the bias, since converting x to float is a pass that is needed anyway and centring is not.

Where torch is loaded and proves itself exact on this processor (`torch_products`), the products of 8-bit integers, and
those of a depthwise convolution, are its own.

The result of a layer is an `Accumulation`, which is computed a block at a time by who requantizes it.
A weight may be a plain array or, to save its conversion in every call, a `PreparedWeight`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith.accumulation import Accumulation
from qgraph.arith.channel_rows import add_per_channel
from qgraph.arith.depthwise import tap_blocks
from qgraph.arith.exactness import as_accumulator, product_dtype
from qgraph.arith.prepared_weight import (
    ExactAccumulation,
    PreparedWeight,
    exact_accumulation,
    prepare_convolution,
    prepare_depthwise,
    prepare_matrix,
    recentred,
)
from qgraph.arith.products import product_of
from qgraph.arith.windows import padded_block, pooled_shape, windows

COLUMNS = 2**18
"""Elements of one block's operand: 1 MiB of float32, about a core's second-level cache."""
BLOCK = 2**16
"""Elements of one block of accumulators."""

Integers = NDArray[np.integer]


def matmul(
    x: Integers,
    weight: Integers | PreparedWeight,
    *,
    x_zero_point: int = 0,
    weight_zero_point: ArrayLike = 0,
    bias: Integers | None = None,
) -> Accumulation:
    """acc [..., O] of x [..., K] and weight [O, K].  weight_zero_point: scalar or [O]; bias [O].

    >>> matmul(np.array([[1, 2]], np.int8), np.array([[3, 4], [5, 6]], np.int8), x_zero_point=1).astype(int)
    array([[4, 6]])
    """
    if not isinstance(weight, PreparedWeight):
        weight = prepare_matrix(weight, weight_zero_point)
    x, x_zero_point = recentred(x, x_zero_point, weight)
    exact = exact_accumulation(weight, bias, x.dtype, x_zero_point)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return Accumulation((*x.shape[:-1], weight.outputs), exact.acc, lambda: _row_blocks(rows, weight, exact))


def batch_matmul(x: Integers, y: Integers, *, x_zero_point: int = 0, y_zero_point: ArrayLike = 0) -> NDArray[Any]:
    """acc [..., M, N] of two activations x [..., M, K] and y [..., K, N]; leading axes broadcast.

    y_zero_point: scalar or [N].

    The bound is that of these very operands: max|x - zero point| * max over columns of sum|y - zero point|.
    """
    left = x.astype(np.float32) - np.float32(x_zero_point)
    right = y.astype(np.float32) - np.asarray(y_zero_point, np.float32)
    column = np.abs(right).sum(axis=-2, dtype=np.float64).max(initial=0.0)
    bound = int(np.abs(left).max(initial=0.0)) * int(column)
    product = product_dtype(bound)
    acc = np.matmul(left.astype(product, copy=False), right.astype(product, copy=False))
    return as_accumulator(acc, bound)


def convolve(
    x: Integers,
    weight: Integers | PreparedWeight,
    *,
    stride: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    groups: int = 1,
    x_zero_point: int = 0,
    weight_zero_point: ArrayLike = 0,
    bias: Integers | None = None,
) -> Accumulation:
    """acc [N, *S', O] of x [N, *S, C] and weight [O, *kernel, C / groups], with any number of spatial axes.

    `pads`: the beginnings of all spatial axes, then their ends.  weight_zero_point: scalar or [O]; bias [O].  A
    `PreparedWeight` brings its own groups and zero point.
    """
    if not isinstance(weight, PreparedWeight):
        weight = prepare_convolution(weight, groups, weight_zero_point)
    rank = len(weight.kernel)
    stride, dilation, pads = stride or (1,) * rank, dilation or (1,) * rank, pads or (0,) * (2 * rank)
    x, x_zero_point = recentred(x, x_zero_point, weight)
    exact = exact_accumulation(weight, bias, x.dtype, x_zero_point)
    stride, dilation, pads = tuple(stride), tuple(dilation), tuple(pads)
    out = _sizes(x.shape[1:-1], weight.kernel, stride, pads, dilation)
    shape = (x.shape[0], *out, weight.outputs)

    def blocks() -> Iterator[NDArray[np.generic]]:
        if math.prod(shape) == 0:
            return iter(())
        if weight.groups > 1 and weight.inputs == 1:
            return tap_blocks(x, weight, exact, stride, pads, dilation, x_zero_point, shape)
        if weight.groups == 1 and math.prod(weight.kernel) == 1 and not any(pads):
            sampled = x[(slice(None), *(slice(None, None, step) for step in stride))]
            return _row_blocks(sampled.reshape(-1, x.shape[-1]), weight, exact)
        return _window_blocks(x, weight, exact, stride, pads, dilation, x_zero_point, shape)

    return Accumulation(shape, exact.acc, blocks)


_sizes = lru_cache(maxsize=1024)(pooled_shape)


def depthwise_convolve(
    x: Integers,
    weight: Integers | PreparedWeight,
    *,
    stride: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    x_zero_point: int = 0,
    weight_zero_point: ArrayLike = 0,
    bias: Integers | None = None,
) -> Accumulation:
    """acc [N, *S', C * M] of x [N, *S, C] and weight [*kernel, C, M]; output channel c * M + m reads channel c.

    TFLite's weight [1, Kh, Kw, C * M] is `weight.reshape(Kh, Kw, C, M)`.  The rest as in `convolve`;
    weight_zero_point: scalar or [C * M].
    """
    if not isinstance(weight, PreparedWeight):
        weight = prepare_depthwise(weight, weight_zero_point)
    return convolve(x, weight, stride=stride, pads=pads, dilation=dilation, x_zero_point=x_zero_point, bias=bias)


def transpose_convolve(
    x: Integers,
    weight: Integers,
    *,
    stride: Sequence[int],
    pads: Sequence[int],
    sizes: Sequence[int],
    x_zero_point: int = 0,
    weight_zero_point: int = 0,
    bias: Integers | None = None,
) -> NDArray[np.int64]:
    """acc [N, *sizes, O] to which each element of x [N, *S, C] adds its products with weight [O, *kernel, C].

    The window of x[i] begins at i * stride - pads; what lies outside of `sizes` is dropped. bias [O].
    Exact in int64: at most prod(kernel) sums of magnitude below 2**48 meet.
    """
    outputs, *kernel, channels = weight.shape
    taps = weight.reshape(-1, channels)
    products = matmul(x, taps, x_zero_point=x_zero_point, weight_zero_point=weight_zero_point)
    windows_of = products.reshape(*x.shape[:-1], outputs, *kernel)
    acc = np.zeros((x.shape[0], *sizes, outputs), np.int64)
    if bias is not None:
        acc += bias
    everything = (slice(None),)
    for place in np.ndindex(*kernel):
        spans = [_landing(*axis) for axis in zip(x.shape[1:-1], stride, np.subtract(place, pads), sizes, strict=True)]
        taken = windows_of[(*everything, *(source for source, _ in spans), *everything, *place)]
        acc[(*everything, *(target for _, target in spans))] += taken.astype(np.int64)
    return acc


def _landing(count: int, stride: int, offset: int, size: int) -> tuple[slice, slice]:
    """Which of `count` elements land inside of `size` when element i goes to i * stride + offset, and where."""
    first = max(0, -(offset // stride))
    last = min(count, (size - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)


def _row_blocks(x: Integers, weight: PreparedWeight, exact: ExactAccumulation) -> Iterator[NDArray[np.generic]]:
    """acc [R, O] = x [R, K] @ weight + offset, in blocks of rows."""
    product = product_of(weight, exact, x.dtype, len(x))
    step = max(1, min(COLUMNS // max(x.shape[1], 1), BLOCK // max(weight.outputs, 1)))
    memory = np.empty((min(step, len(x)), weight.outputs), exact.acc)
    for start in range(0, len(x), step):
        rows = x[start : start + step].astype(product.dtype, copy=False)
        block = memory[: len(rows)]
        product(rows, 0, block)
        add_per_channel(block, exact.offset)
        yield block


def _window_blocks(
    x: Integers,
    weight: PreparedWeight,
    exact: ExactAccumulation,
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    x_zero_point: int,
    shape: Sequence[int],
) -> Iterator[NDArray[np.generic]]:
    """The convolution as products of unrolled windows, a block of images or of one image's rows at a time."""
    product = product_of(weight, exact, x.dtype, math.prod(shape[:-1]))
    rank, inputs, outputs = len(weight.kernel), weight.inputs, weight.outputs // weight.groups
    places = math.prod(shape[2:-1])
    row_elements, most = places * inputs * math.prod(weight.kernel), shape[1] * places * weight.outputs
    images = min(max(1, min(COLUMNS // max(1, row_elements * shape[1]), BLOCK // most)), shape[0])
    step = min(max(1, min(COLUMNS // row_elements, BLOCK * shape[1] // most)), shape[1])
    padded, inside = padded_block(x, images, pads, x_zero_point, product.dtype)
    view = windows(padded, weight.kernel, stride, dilation, first_axis=1)
    view = view.transpose(*range(rank + 1), *range(rank + 2, 2 * rank + 2), rank + 1)  # *kernel, C last
    columns = np.empty(images * step * row_elements, product.dtype)
    memory = np.empty((images * step * places, weight.outputs), exact.acc)
    for first in range(0, shape[0], images):
        count = min(images, shape[0] - first)
        inside[:count] = x[first : first + count]
        for row in range(0, shape[1], step):
            block = memory[: count * min(step, shape[1] - row) * places]
            for group in range(weight.groups):
                taken = view[:count, row : row + step, ..., group * inputs : (group + 1) * inputs]
                rows = _unrolled(taken, rank, columns)
                product(rows, group, block[:, group * outputs : (group + 1) * outputs])
            add_per_channel(block, exact.offset)
            yield block


def _unrolled(view: NDArray[np.generic], rank: int, memory: NDArray[np.generic]) -> NDArray[np.generic]:
    """Windows [n, *S', *kernel, c] as a contiguous matrix [n * prod(S'), prod(kernel) * c], in memory.

    Copied one position of the first kernel axis at a time: NumPy then runs along whole kernel rows.
    """
    columns = memory[: view.size].reshape(view.shape)
    leading = (slice(None),) * (rank + 1)
    for position in range(view.shape[rank + 1]):
        where: tuple[slice | int, ...] = (*leading, position)
        columns[where] = view[where]
    return columns.reshape(math.prod(view.shape[: rank + 1]), -1)
