"""Pooling and means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_ops.rows import Arguments, aten, each_size, spatial_rank
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def max_pool(at: Importer, a: Arguments) -> Value:
    """Maximum over a window."""
    x = at.value(a["self"])
    rank = spatial_rank(at, x)
    kernel = each_size(a["kernel_size"], rank)
    return at.build.nn.max_pool(
        x,
        kernel=kernel,
        stride=each_size(a["stride"], rank) if a["stride"] else kernel,
        pads=each_size(a["padding"], rank) * 2,
        dilation=each_size(a["dilation"], rank),
        ceil_mode=a["ceil_mode"],
    )


@aten("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def avg_pool(at: Importer, a: Arguments) -> Value:
    """Mean over a window."""
    if a.get("divisor_override"):
        raise TypeMismatch("average pooling with divisor_override is not supported")
    x = at.value(a["self"])
    rank = spatial_rank(at, x)
    kernel = each_size(a["kernel_size"], rank)
    return at.build.nn.avg_pool(
        x,
        kernel=kernel,
        stride=each_size(a["stride"], rank) if a["stride"] else kernel,
        pads=each_size(a["padding"], rank) * 2,
        ceil_mode=a["ceil_mode"],
        count_include_pad=a["count_include_pad"],
    )


@aten("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default")
def adaptive_avg_pool(at: Importer, a: Arguments) -> Value:
    """A global mean for an output of size 1, else windows of equal size where the sizes divide."""
    x = at.value(a["self"])
    out = each_size(a["output_size"], spatial_rank(at, x))
    spatial = [int(size) for size in x.type.shape[2:]]
    if all(size == 1 for size in out):
        return at.build.nn.mean(x, axes=tuple(range(2, x.type.rank)), keepdims=True)
    if any(size % wanted for size, wanted in zip(spatial, out, strict=True)):
        raise TypeMismatch(f"adaptive average pooling of {spatial} to {list(out)} needs windows of different sizes")
    kernel = tuple(size // wanted for size, wanted in zip(spatial, out, strict=True))
    return at.build.nn.avg_pool(x, kernel=kernel, stride=kernel, pads=(0, 0) * len(kernel))


@aten("mean.dim", "mean.default")
def mean(at: Importer, a: Arguments) -> Value:
    """Mean over dimensions."""
    x = at.value(a["self"])
    dims = a.get("dim") or range(x.type.rank)
    return at.build.nn.mean(x, axes=tuple(sorted(d % x.type.rank for d in dims)), keepdims=a.get("keepdim", False))
