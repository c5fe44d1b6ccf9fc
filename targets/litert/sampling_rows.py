"""Rows of images that are sampled at computed places: by GATHER and arithmetic of int32. Channels are last.

    grid [N, P, Q, 2] of 16 bits    a column and a row as integers of 2**-k pixels, cut off where nothing more changes
    pixel                           QUANTIZE of that and a half step less than half a pixel less: it never lies between
    x [N, H * W, C]                 GATHER of four neighbours; two sums of 2**k parts, then QUANTIZE: rounded once

`k` is as large as 16 bits of places, and int32 of sums, allow: 11 for images of 30 pixels and less, 7 for values of 16
bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qgraph.ir import Element, Node, QuantParams, Value
from qgraph.ir.types import integer_range
from qgraph.ops.quant import is_known
from qgraph.targets.correspondence import Call, Correspondence, Refusal

FINEST = {"i8": 11, "i16": 7}
"""Storage of x -> the largest k: sums of 2**2k parts, of codes beside the zero point, fit into int32."""
LARGEST = integer_range("i16")[1]


class Place(NamedTuple):
    """Where a column or a row lies: the `pixel` at it or before it, as an index of int32, and how many parts of 2**k
    behind; each [N, P * Q, 1]."""

    pixel: Value
    parts: Value


def finest(call: Call) -> int:
    """The number of bits behind the point of places, k."""
    largest = max(int(size) for size in call.xs[0].type.shape[1:3])
    return min(FINEST[call.xs[0].type.dtype], int(np.log2(2 * LARGEST / (largest + 1))))


# ---- arithmetic of int32


def number(call: Call, value: int) -> Value:
    """A constant of three dimensions."""
    return call.build.constant(np.full((1, 1, 1), value, np.int32), f"number_{value}")


def plus(call: Call, x: Value, value: int) -> Value:
    """x + a number."""
    made: Value = call.build.litert.float_add(x, number(call, value)) if value else x
    return made


def times(call: Call, x: Value, value: int) -> Value:
    """x * a number."""
    made: Value = call.build.litert.float_mul(x, number(call, value)) if value != 1 else x
    return made


def as_codes(call: Call, x: Value, scale: float, element: Element) -> Value:
    """Integers of that scale, brought to an element type: QUANTIZE."""
    codes = call.build.litert.cast(x, element=("i32", QuantParams.of(scale, 0)))
    made: Value = call.lowering.target.requantize(call.lowering, codes, element)
    return made


# ---- places


def place(call: Call, axis: int, k: int, before: int) -> Place:
    """The column (axis 0) or row (1) of each place, in an image with `before` pixels around its first."""
    build, a = call.build, call.attrs
    size = int(call.xs[0].type.shape[2 - axis])
    words = {"begin": (0, 0, axis), "end": (0, 0, axis + 1), "strides": (1, 1, 1)}
    points = int(call.node.result.type.shape[1]) * int(call.node.result.type.shape[2])
    grid = build.litert.reshape(call.xs[1], shape=(-1, points, 2))
    grid = build.litert.strided_slice(grid, **words, begin_mask=3, end_mask=3)
    span = size - 1 if a["align_corners"] else size
    steps = QuantParams.of(2.0 ** (1 - k) / max(span, 1), 0)
    centred = call.lowering.target.requantize(call.lowering, grid, ("i16", steps))
    centred = call.lowering.target.clamp(call.lowering, centred, *_bounds(call, size, span, k))
    fixed = build.litert.cast(centred, element=("i32", None))
    fixed = plus(call, fixed, (size - 1 << k) // 2 + (before << k))
    half = 0 if a["mode"] == "nearest" else -(1 << k + 1)
    shifted = plus(call, times(call, fixed, 4), 2 + half)  # even, and never between two pixels when it is rounded
    pixel = as_codes(call, shifted, 2.0 ** -(k + 2), ("i16", QuantParams.of(1.0, 0)))
    pixel = build.litert.cast(pixel, element=("i32", None))
    return Place(pixel, build.litert.float_sub(fixed, times(call, pixel, 1 << k)))


def _bounds(call: Call, size: int, span: int, k: int) -> tuple[int, int]:
    """How far, in parts, a place may lie before and behind the centre of the image: up to the border, or as far as
    there is something but zeros to see."""
    if not span:
        return 0, 0
    if call.attrs["padding"] == "border":
        reach = (size - 1 << k) // 2
        return -reach, reach
    reach = (size + 1 << k) // 2
    return -reach, reach - 1


# ---- pixels


def sampled(row: Correspondence, call: Call) -> Value:
    """The pixel at each place, or the four around it, weighted."""
    k, build = finest(call), call.build
    before = int(call.attrs["padding"] == "zeros")
    behind = int(before or call.attrs["mode"] == "bilinear")
    image = call.xs[0]
    if before or behind:
        image = build.litert.pad(image, pads=(0, before, before, 0, 0, behind, behind, 0))
    columns, rows = (place(call, axis, k, before) for axis in range(2))
    _, height, width, channels = image.type.shape
    result = call.node.result.type.shape
    points = int(result[1]) * int(result[2])
    flat = build.litert.reshape(image, shape=(-1, int(height) * int(width), int(channels)))
    first = build.litert.float_add(times(call, rows.pixel, int(width)), columns.pixel)

    def pixels(behind: int) -> Value:
        places = build.litert.reshape(plus(call, first, behind), shape=(-1, points))
        return build.node(row.target, [flat, places], {"axis": 1, "batch_dims": 1}).result

    if call.attrs["mode"] == "nearest":
        made = pixels(0)
    else:
        above, below = (
            between(call, columns.parts, k, *(_around_zero(call, pixels(line + right)) for right in (0, 1)))
            for line in (0, int(width))
        )
        quant = image.type.q
        scale = float(quant.scales[0]) * 2.0 ** (-2 * k)
        made = as_codes(call, between(call, rows.parts, k, above, below), scale, (image.type.dtype, quant))
    shaped: Value = build.litert.reshape(made, shape=(-1, *(int(size) for size in result[1:])))
    return shaped


def _around_zero(call: Call, x: Value) -> Value:
    """Codes beside the zero point, in int32."""
    codes = call.build.litert.cast(x, element=("i32", None))
    return plus(call, codes, -int(x.type.q.zero_points[0]))


def between(call: Call, parts: Value, k: int, first: Value, second: Value) -> Value:
    """(2**k - parts) * first + parts * second."""
    build = call.build
    step = build.litert.float_mul(build.litert.float_sub(second, first), parts)
    made: Value = build.litert.float_add(times(call, first, 1 << k), step)
    return made


def has_form(node: Node) -> Refusal | None:
    """Images that are computed, of known sizes, with zeros or their border around them."""
    x, grid = node.inputs
    if node.attrs["padding"] == "reflection":
        return Refusal("an image that is reflected has no integer form here", 'use padding_mode="border" or "zeros"')
    if is_known(x) or is_known(grid):
        return Refusal(f"{x if is_known(x) else grid} is known: LiteRT samples what is computed", "compute it")
    sizes = (*x.type.shape[1:], *node.result.type.shape[1:])
    if all(isinstance(size, int) for size in sizes):
        return None
    return Refusal(f"{x.type} is sampled at {grid.type}: the sizes must be known", "fix them: see `set-batch`")


SAMPLING = [
    Correspondence(
        source="grid_sample",
        target="litert.gather",
        result="operand",
        when=has_form,
        lower=sampled,
        raises=False,
    )
]
