"""Depthwise accumulation: one multiply-add over whole rows for each position of the kernel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qgraph.arith import torch_products
from qgraph.arith.channel_rows import add_per_channel
from qgraph.arith.kept import kept_with
from qgraph.arith.prepared_weight import ExactAccumulation, PreparedWeight
from qgraph.arith.windows import padded_block

BLOCK = 2**16  # elements of one block: 256 KiB of float32, so that three blocks fit a second-level cache

LEAST = 2**14
"""Elements of the result from which on a call of torch is worth its time."""


def tap_blocks(
    x: NDArray[np.integer],
    weight: PreparedWeight,
    exact: ExactAccumulation,
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    x_zero_point: int,
    shape: Sequence[int],
) -> Iterator[NDArray[np.generic]]:
    """acc of `shape` [N, *S', C * M] from x [N, *S, C] and a weight of one input channel a group, values [C, K, M].

    By torch, or in NumPy: x's last spatial axis is then first sorted by its phase modulo the stride, so that every tap
    reads contiguous runs of W' * C * M elements; the tap's weights are repeated along W' to match.
    """
    rank = len(weight.kernel)
    if rank == 1:  # rows to cut into blocks
        return tap_blocks(
            x[:, None], _with_leading_axis(weight), exact, (1, *stride), (0, pads[0], 0, pads[1]), (1, *dilation),
            x_zero_point, (shape[0], 1, *shape[1:]),
        )  # fmt: skip
    worth_a_call = math.prod(shape) >= LEAST and x.dtype.itemsize == 1 and exact.product == np.float32
    convolve = torch_products.of_channels(weight, stride, dilation) if worth_a_call else None
    if convolve is not None:
        return _convolved_blocks(x, weight, exact, (stride, pads, dilation), x_zero_point, shape, convolve)
    repeat = _kept_taps if weight.values.size * shape[-2] <= BLOCK else _repeated_taps
    taps = repeat(weight, shape[-2], exact.product)
    row_elements = math.prod(shape[2:])
    images, rows = max(1, BLOCK // (row_elements * shape[1])), max(1, BLOCK // row_elements)

    def blocks() -> Iterator[NDArray[np.generic]]:
        memory = np.empty(min(images, shape[0]) * min(rows, shape[1]) * row_elements, exact.acc)
        for first in range(0, shape[0], images):
            source = _sorted_by_phase(x[first : first + images], weight, stride, pads, x_zero_point, exact.product)
            for row in range(0, shape[1], rows):
                sizes = (len(source), min(rows, shape[1] - row), *shape[2:])
                part = memory[: math.prod(sizes)].reshape(sizes)
                _sum_taps(source, taps, row, weight.kernel, stride, dilation, part)
                add_per_channel(part, exact.offset)
                yield part.reshape(-1, shape[-1])

    return blocks()


def _convolved_blocks(
    x: NDArray[np.integer],
    weight: PreparedWeight,
    exact: ExactAccumulation,
    window: tuple[Sequence[int], Sequence[int], Sequence[int]],
    x_zero_point: int,
    shape: Sequence[int],
    convolve: torch_products.Convolve,
) -> Iterator[NDArray[np.generic]]:
    """The same by a function of padded images, for stride, pads and dilation of two axes."""
    (stride, _), pads, (dilation, _) = window
    row_elements = math.prod(shape[2:])
    images, rows = max(1, BLOCK // (row_elements * shape[1])), min(max(1, BLOCK // row_elements), shape[1])
    padded, inside = padded_block(x, min(images, shape[0]), pads, x_zero_point, exact.product)
    reach = (weight.kernel[0] - 1) * dilation + 1 - stride
    for first in range(0, shape[0], images):
        count = min(images, shape[0] - first)
        inside[:count] = x[first : first + count]
        for row in range(0, shape[1], rows):
            last = min(row + rows, shape[1])
            block = convolve(padded[:count, row * stride : last * stride + reach]).reshape(-1, shape[-1])
            block = block.astype(exact.acc, copy=False)
            add_per_channel(block, exact.offset)
            yield block


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
