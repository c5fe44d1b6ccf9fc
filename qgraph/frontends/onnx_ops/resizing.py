"""Images of other sizes."""

from __future__ import annotations

import math

import numpy as np

from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops.rows import reads
from qgraph.ir import Array, Builder, Value

SMOOTH = ("half_pixel", "pytorch_half_pixel", "align_corners")
"""Where `nn.resize` reads between elements, in ONNX's words."""
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
    _check_places(node, before, size, (mode, places, rounding))
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


def _check_places(node: OnnxNode, before: tuple[int, ...], size: tuple[int, ...], words: tuple[str, str, str]) -> None:
    """Refuse what reads elsewhere than `nn.resize` does."""
    mode, places, rounding = words
    factors = {after / n for n, after in zip(before, size, strict=True)}
    if mode == "nearest":
        middle = places in SMOOTH[:2] and rounding.startswith("round") and all(factor % 1 == 0 for factor in factors)
        begin = places == "asymmetric" and (
            rounding == "floor" or (rounding == "round_prefer_floor" and factors <= {1, 2})
        )
        fits = middle or begin
    else:
        fits = places in SMOOTH and not (places == "pytorch_half_pixel" and 1 in size)
    if not fits:
        raise node.unsupported(f"mode {mode!r} with {places!r} and {rounding!r} is not supported for these sizes")


@reads("GridSample")
def _grid_sample(node: OnnxNode, build: Builder) -> Value:
    mode = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest"}.get(node.attr("mode", "linear"))
    if mode is None or node.operand(0).type.rank != 4:
        raise node.unsupported("only images, and the modes linear and nearest, are supported")
    aligned, padding = bool(node.attr("align_corners", 0)), node.attr("padding_mode", "zeros")
    return build.nn.grid_sample(node.operand(0), node.operand(1), mode=mode, padding=padding, align_corners=aligned)
