"""Depthwise accumulation: one multiply-add over whole rows for each position of the kernel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.channel_rows import add_per_channel
from qgraph.arith.exactness import Accumulator
from qgraph.arith.kept import kept_with
from qgraph.arith.prepared_weight import ExactAccumulation, PreparedWeight

BLOCK = 2**16  # elements of one block: 256 KiB of float32, so that three blocks fit a second-level cache


def accumulate_taps(
    x: NDArray[np.integer],
    weight: PreparedWeight,
    exact: ExactAccumulation,
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    x_zero_point: int,
    acc: Accumulator,
) -> None:
    """Fill acc [N, *S', C * M] from x [N, *S, C] and a weight of one input channel a group, values [C, K, M].

    x's last spatial axis is first sorted by its phase modulo the stride, so that every tap reads contiguous runs of
    W' * C * M elements; the tap's weights are repeated along W' to match.
    """
    rank = len(weight.kernel)
    if rank == 1:  # rows to cut into blocks
        return accumulate_taps(
            x[:, None], _with_leading_axis(weight), exact, (1, *stride), (0, pads[0], 0, pads[1]), (1, *dilation),
            x_zero_point, acc[:, None],
        )  # fmt: skip
    repeat = _kept_taps if weight.values.size * acc.shape[-2] <= BLOCK else _repeated_taps
    taps = repeat(weight, acc.shape[-2], exact.product)
    row_elements = math.prod(acc.shape[2:])
    images, rows = max(1, BLOCK // (row_elements * acc.shape[1])), max(1, BLOCK // row_elements)
    for first in range(0, x.shape[0], images):
        source = _sorted_by_phase(x[first : first + images], weight, stride, pads, x_zero_point, exact.product)
        for row in range(0, acc.shape[1], rows):
            part = acc[first : first + images, row : row + rows]
            _sum_taps(source, taps, row, weight.kernel, stride, dilation, part)
            add_per_channel(part, exact.offset)
    return None


def _sum_taps(
    source: NDArray[np.generic],
    taps: NDArray[np.generic],
    row: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    out: NDArray[np.generic],
) -> None:
    """Write the sum of source * taps into out [n, rows, ..., W', C * M], whose first row is `row` of the result."""
    total = out if out.dtype == source.dtype else np.empty(out.shape, source.dtype)
    term = np.empty(out.shape, source.dtype)
    places = _places(row, tuple(kernel), tuple(stride), tuple(dilation), out.shape[1:-1])
    for number, where in enumerate(places):
        taken = source[where]
        if number == 0:
            np.multiply(taken, taps[number], out=total)
        else:
            np.multiply(taken, taps[number], out=term)
            np.add(total, term, out=total)
    if total is not out:
        np.copyto(out, total, casting="unsafe")


@lru_cache(maxsize=1024)
def _places(
    row: int, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], sizes: tuple[int, ...]
) -> list[tuple[slice | int, ...]]:
    """For each position of the kernel, where the sorted source has what it multiplies for a result of these sizes."""
    places: list[tuple[slice | int, ...]] = []
    for position in itertools.product(*map(range, kernel)):
        starts = [p * d for p, d in zip(position, dilation, strict=True)]
        starts[0] += row * stride[0]
        leading = [
            slice(start, start + (size - 1) * step + 1, step)
            for start, size, step in zip(starts[:-1], sizes[:-1], stride[:-1], strict=True)
        ]
        column, phase = divmod(starts[-1], stride[-1])
        places.append((slice(None), *leading, phase, slice(column, column + sizes[-1])))
    return places


def _sorted_by_phase(
    x: NDArray[np.integer],
    weight: PreparedWeight,
    stride: Sequence[int],
    pads: Sequence[int],
    value: int,
    dtype: np.dtype[np.generic],
) -> NDArray[np.generic]:
    """Padded x as [n, *leading, stride, W / stride, C * M]: column w stands at [w % stride, w // stride].

    Each channel is repeated M times.
    """
    rank, phases, multiplier = len(weight.kernel), stride[-1], weight.values.shape[2]
    sizes = [size + pads[axis] + pads[axis + rank] for axis, size in enumerate(x.shape[1:-1])]
    columns = -(-sizes[-1] // phases)
    buffer = np.full((x.shape[0], *sizes[:-1], phases, columns, x.shape[-1], multiplier), value, dtype)
    leading = (slice(None), *(slice(pads[axis], pads[axis] + x.shape[1 + axis]) for axis in range(rank - 1)))
    for phase in range(phases):
        source = (phase - pads[rank - 1]) % phases
        taken = x[..., source::phases, :, None]
        column = (pads[rank - 1] + source) // phases
        where: tuple[slice | int, ...] = (*leading, phase, slice(column, column + taken.shape[-3]))
        buffer[where] = taken
    return buffer.reshape(*buffer.shape[:-2], -1)


def _repeated_taps(weight: PreparedWeight, width: int, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """The weights [K, W', C * M], every tap repeated along the output's last spatial axis."""
    taps = weight.values.transpose(1, 0, 2).reshape(weight.values.shape[1], 1, -1).astype(dtype)
    return np.repeat(taps, width, axis=1)


_kept_taps = kept_with(1)(_repeated_taps)


@kept_with(1)
def _with_leading_axis(weight: PreparedWeight) -> PreparedWeight:
    """The same weight with a kernel axis of size 1 in front."""
    return PreparedWeight(weight.values, (1, *weight.kernel), weight.sums, weight.magnitude)
