"""Images of other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops.rows import reads
from qgraph.ir import Array, Builder, Value
from qgraph.ops.nn.resizing import interpolation

SMOOTH = ("half_pixel", "pytorch_half_pixel", "align_corners")
"""Where `nn.resize` reads between elements, in ONNX's words."""
BORDER = 1e-5
"""Next to whole and half places, but for those themselves, float32 decides which element is the nearest."""
FIXED = {"antialias": 0, "keep_aspect_ratio_policy": "stretch", "cubic_coeff_a": -0.75, "exclude_outside": 0}
"""Attributes that `nn.resize` knows one value of."""


@reads("Resize", "Upsample")
def _resize(node: OnnxNode, build: Builder) -> Value:
    """The spatial dimensions; what torch's `interpolate` does not do is refused."""
    x, old = node.operand(0), node.op == "Upsample" or node.reader.opset < 11
    mode = node.attr("mode", "nearest").removeprefix("bi").removeprefix("tri")
    places = node.attr("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    rounding = node.attr("nearest_mode", "floor" if old else "round_prefer_floor")
    for name, value in FIXED.items():
        node.expect(name, value)
    node.attr("extrapolation_value", 0.0)
    node.has(1)  # the region of interest serves tf_crop_and_resize alone
    before = tuple(size for size in x.type.shape[2:] if isinstance(size, int))
    if len(before) != x.type.rank - 2:
        raise node.unsupported(f"the sizes of {x.type} must be known")
    scales, size = _asked(node, before, 1 if old else 2)
    codes = x.type.quant is not None  # which are chosen, and not computed with
    if codes and mode != "nearest":
        raise node.unsupported(f"a {mode} resize of codes is not supported")
    if codes or not _is_as_in_torch(before, size, (mode, places, rounding)):
        return _resized_apart(node, build, x, size, scales, (mode, places, rounding))
    aligned = places == "align_corners"
    if aligned and scales is not None and any(n * scale % 1 for n, scale in zip(before, scales, strict=True)):
        raise node.unsupported("align_corners with scales that make no whole sizes is not supported")
    ratios = [n / m for n, m in zip(before, size, strict=True)]
    steps = None if scales is None or aligned else [1 / scale for scale in scales]
    steps = None if steps is None or np.allclose(steps, ratios, rtol=1e-6) else steps
    return build.nn.resize(x, size=size, mode=mode, align_corners=aligned, steps=steps and tuple(steps))


def _asked(node: OnnxNode, before: tuple[int, ...], index: int) -> tuple[list[float] | None, tuple[int, ...]]:
    """The scales of the spatial dimensions where they are given, and their sizes."""
    rank = 2 + len(before)
    axes = [axis % rank for axis in node.attr("axes", tuple(range(rank)))]
    if node.has(3):
        sizes = _of_axes(node, node.known(3), axes)
        return None, tuple(int(sizes.get(2 + i, size)) for i, size in enumerate(before))
    given = np.array(node.attrs.pop("scales")) if "scales" in node.attrs else node.known(index)
    scales = _of_axes(node, given, axes)
    if any(scales.get(axis, 1) != 1 for axis in (0, 1)):
        raise node.unsupported("batch and channels cannot be resized")
    each = [scales.get(2 + i, 1.0) for i in range(len(before))]
    return each, tuple(math.floor(size * scale) for size, scale in zip(before, each, strict=True))


def _of_axes(node: OnnxNode, given: Array | None, axes: list[int]) -> dict[int, float]:
    if given is None:
        raise node.unsupported("its sizes are computed while the model runs")
    return dict(zip(axes, given.tolist(), strict=True))


def _is_as_in_torch(before: tuple[int, ...], size: tuple[int, ...], words: tuple[str, str, str]) -> bool:
    """Whether places are those of `nn.resize`."""
    mode, places, rounding = words
    factors = {after / n for n, after in zip(before, size, strict=True)}
    if mode == "nearest":
        middle = places in SMOOTH[:2] and rounding.startswith("round") and all(factor % 1 == 0 for factor in factors)
        begin = places == "asymmetric" and (
            rounding == "floor" or (rounding == "round_prefer_floor" and factors <= {1, 2})
        )
        return middle or begin
    return places in SMOOTH and not (places == "pytorch_half_pixel" and 1 in size)


ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda places: np.ceil(places - 0.5),
    "round_prefer_ceil": lambda places: np.floor(places + 0.5),
}


def _resized_apart(
    node: OnnxNode,
    build: Builder,
    x: Value,
    size: tuple[int, ...],
    scales: list[float] | None,
    words: tuple[str, str, str],
) -> Value:
    """Places that `nn.resize` does not read: chosen elements of each dimension, or products with how much of each."""
    mode, places, rounding = words
    rank = x.type.rank
    before = [int(each) for each in x.type.shape[2:]]
    if places not in (*SMOOTH, "asymmetric") or rounding not in ROUNDINGS or (mode != "nearest" and rank > 4):
        raise node.unsupported(f"mode {mode!r} with {places!r} and {rounding!r} is not supported for these sizes")
    for i, (old, new) in enumerate(zip(before, size, strict=True)):
        scale = np.float32(new) / np.float32(old) if scales is None else np.float32(scales[i])
        read = _places(old, new, scale, places).astype(np.float64)
        if mode == "nearest":
            halves = np.abs(read * 2 - np.rint(read * 2))
            if ((halves > 0) & (halves < BORDER)).any():
                raise node.unsupported(f"dimension {2 + i} is read next to where {rounding!r} chooses another element")
            index = np.clip(ROUNDINGS[rounding](read), 0, old - 1).astype(np.int64)
            x = build.nn.gather(x, build.constant(index, "places"), axis=2 + i)
            continue
        matrix = interpolation(read, old, mode).astype(np.float32)
        if i == rank - 3:
            x = build.nn.matmul(x, build.constant(np.ascontiguousarray(matrix.T), "columns"))
        else:
            x = build.nn.matmul(build.constant(matrix, "rows"), x)
    return x


def _places(old: int, new: int, scale: np.float32, word: str) -> Array:
    """Where each element of a dimension is read, in float32 as ONNX Runtime computes it."""
    index = np.arange(new, dtype=np.float32)
    if word == "align_corners":
        return np.asarray(index * np.float32(old - 1) / np.float32(new - 1) if new > 1 else index * 0, np.float32)
    if word == "asymmetric":
        return np.asarray(index / scale, np.float32)
    if word == "pytorch_half_pixel" and new == 1:
        return index * 0
    return np.asarray((index + np.float32(0.5)) / scale - np.float32(0.5), np.float32)


@reads("GridSample")
def _grid_sample(node: OnnxNode, build: Builder) -> Value:
    mode = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest"}.get(node.attr("mode", "linear"))
    if mode is None or node.operand(0).type.rank != 4:
        raise node.unsupported("only images, and the modes linear and nearest, are supported")
    aligned, padding = bool(node.attr("align_corners", 0)), node.attr("padding_mode", "zeros")
    return build.nn.grid_sample(node.operand(0), node.operand(1), mode=mode, padding=padding, align_corners=aligned)
