"""Images of other sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.frontends.target_shapes import reshaped
from qgraph.frontends.torch_ops.rows import Arguments, aten, known_sizes
from qgraph.ir import Value
from qgraph.ops.nn.resizing import antialiased

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer

MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}
"""torch's word in the name of the op -> that of `nn.resize`."""


@aten(*(f"upsample_nearest{rank}d.{form}" for rank in (1, 2, 3) for form in ("vec", "default")))
@aten(*(f"upsample_{name}.{form}" for name in ("linear1d", "bilinear2d", "trilinear3d") for form in ("vec", "default")))
@aten("upsample_bicubic2d.vec", "upsample_bicubic2d.default")
def resize(at: Importer, a: Arguments) -> Value:
    """Resampling; a scale that is given, and not a size, says where an index lies in the operand."""
    x = at.value(a["input"] if "input" in a else a["self"])
    size, spatial = known_sizes(at.result_type().shape[2:]), known_sizes(x.type.shape[2:])
    given = a.get("scale_factors") or [a.get(name) for name in ("scales_d", "scales_h", "scales_w", "scales")]
    factors = [factor for factor in given if factor is not None]
    steps = tuple(1 / factor for factor in factors) if len(factors) == len(size) else None
    if steps == tuple(before / after for before, after in zip(spatial, size, strict=True)):
        steps = None
    mode = MODES[at.op.partition("upsample_")[2].split(".")[0].rstrip("123d")]
    return at.build.nn.resize(x, size=size, mode=mode, align_corners=bool(a.get("align_corners")), steps=steps)


ANTIALIASED = {"bilinear": "linear", "bicubic": "cubic"}
"""torch's word in the name of the op -> that of `antialiased`."""


@aten("_upsample_bilinear2d_aa.default", "_upsample_bilinear2d_aa.vec")
@aten("_upsample_bicubic2d_aa.default", "_upsample_bicubic2d_aa.vec")
def resize_with_antialiasing(at: Importer, a: Arguments) -> Value:
    """Resampling with a wider filter where an image becomes smaller: a product with the weights of either dimension."""
    x = at.value(a["input"] if "input" in a else a["self"])
    size, spatial = known_sizes(at.result_type().shape[2:]), known_sizes(x.type.shape[2:])
    given = a.get("scale_factors") or [a.get(name) for name in ("scales_h", "scales_w")]
    mode = ANTIALIASED[at.op.partition("upsample_")[2].partition("2d")[0]]
    rows, columns = (
        antialiased(before, after, before / after if factor is None else 1 / factor, mode, bool(a["align_corners"]))
        for before, after, factor in zip(spatial, size, given, strict=True)
    )
    made = at.build.nn.matmul(x, at.build.constant(columns.T.astype(x.type.numpy), "columns"))
    return at.build.nn.matmul(at.build.constant(rows.astype(x.type.numpy), "rows"), made)


@aten("grid_sampler.default", "grid_sampler_2d.default")
def grid_sample(at: Importer, a: Arguments) -> Value:
    """An image at given places."""
    return at.build.nn.grid_sample(
        at.value(a["input"]),
        at.value(a["grid"]),
        mode=("bilinear", "nearest", "bicubic")[a["interpolation_mode"]],
        padding=("zeros", "border", "reflection")[a["padding_mode"]],
        align_corners=bool(a["align_corners"]),
    )


@aten("affine_grid_generator.default")
def affine_grid(at: Importer, a: Arguments) -> Value:
    """The places of the pixels under an affine map [N, 2, 3]."""
    theta = at.value(a["theta"])
    height, width = known_sizes(a["size"][2:])
    ends = [1.0 if a["align_corners"] or size == 1 else 1 - 1 / size for size in (height, width)]
    sizes = zip(ends, (height, width), strict=True)
    y, x = (np.linspace(-end, end, size) if size > 1 else np.zeros(1) for end, size in sizes)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    places = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3).astype(np.float32)
    made = at.build.nn.matmul(at.build.constant(places, "places"), at.build.nn.transpose(theta, perm=(0, 2, 1)))
    return reshaped(at.build, made, at.result_type().shape)
