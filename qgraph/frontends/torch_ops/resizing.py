"""Images of other sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value

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
    size = tuple(int(each) for each in at.result_type().shape[2:])
    given = a.get("scale_factors") or [a.get(name) for name in ("scales_d", "scales_h", "scales_w", "scales")]
    factors = [factor for factor in given if factor is not None]
    steps = tuple(1 / factor for factor in factors) if len(factors) == len(size) else None
    if steps == tuple(int(before) / after for before, after in zip(x.type.shape[2:], size, strict=True)):
        steps = None
    mode = MODES[at.op.partition("upsample_")[2].split(".")[0].rstrip("123d")]
    return at.build.nn.resize(x, size=size, mode=mode, align_corners=bool(a.get("align_corners")), steps=steps)


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
