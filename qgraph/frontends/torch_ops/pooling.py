"""Pooling and means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qgraph.errors import TypeMismatch
from qgraph.frontends.composed import scaled
from qgraph.frontends.torch_ops.rows import Arguments, aten, each_size, known_sizes, spatial_rank
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def max_pool(at: Importer, a: Arguments) -> Value:
    """Maximum over a window."""
    return _max_pool(at, a)


def _max_pool(at: Importer, a: Arguments) -> Value:
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
    x, divisor = at.value(a["self"]), a.get("divisor_override")
    if divisor and a["ceil_mode"]:
        raise TypeMismatch("average pooling with divisor_override and ceil_mode is not supported")
    rank = spatial_rank(at, x)
    kernel = each_size(a["kernel_size"], rank)
    made = at.build.nn.avg_pool(
        x,
        kernel=kernel,
        stride=each_size(a["stride"], rank) if a["stride"] else kernel,
        pads=each_size(a["padding"], rank) * 2,
        ceil_mode=a["ceil_mode"],
        count_include_pad=a["count_include_pad"] or bool(divisor),
    )
    return scaled(at.build, made, math.prod(kernel) / divisor) if divisor else made


@aten("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default")
def adaptive_avg_pool(at: Importer, a: Arguments) -> Value:
    """A global mean for an output of size 1, else windows of equal size where the sizes divide."""
    x, wanted = at.value(a["self"]), a["output_size"]
    rank = spatial_rank(at, x)
    if wanted == 1 or [*wanted] == [1] * len(wanted):
        return at.build.nn.mean(x, axes=tuple(range(2, x.type.rank)), keepdims=True)
    spatial, out = _adaptive_sizes(x, rank, wanted)
    if any(size % wanted for size, wanted in zip(spatial, out, strict=True)):
        return at.build.nn.adaptive_avg_pool(x, size=out)
    kernel = tuple(size // wanted for size, wanted in zip(spatial, out, strict=True))
    return at.build.nn.avg_pool(x, kernel=kernel, stride=kernel, pads=(0, 0) * len(kernel))


def _adaptive_sizes(x: Value, rank: int, given: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The spatial sizes, and those wanted: None stands for the size that there is."""
    spatial = known_sizes(x.type.shape[2:])
    wanted = [given] * rank if isinstance(given, int) else list(given) * (rank // len(given))
    return spatial, tuple(size if each is None else each for size, each in zip(spatial, wanted, strict=True))


@aten("adaptive_max_pool1d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def adaptive_max_pool(at: Importer, a: Arguments) -> list[Value]:
    """The maximum of windows; of equal ones where the sizes divide. Where it is, nothing here can use."""
    x = at.value(a["self"])
    spatial, out = _adaptive_sizes(x, spatial_rank(at, x), a["output_size"])
    at.expect_first_only()
    if any(size % wanted for size, wanted in zip(spatial, out, strict=True)):
        made = at.build.nn.adaptive_max_pool(x, size=out)
    else:
        kernel = tuple(size // wanted for size, wanted in zip(spatial, out, strict=True))
        made = at.build.nn.max_pool(x, kernel=kernel, stride=kernel)
    return [made] * 2


@aten("max_pool1d_with_indices.default", "max_pool2d_with_indices.default", "max_pool3d_with_indices.default")
def max_pool_with_indices(at: Importer, a: Arguments) -> list[Value]:
    """Maximum over a window. Where it is, nothing here can use."""
    at.expect_first_only()
    return [_max_pool(at, a)] * 2


@aten("mean.dim", "mean.default")
def mean(at: Importer, a: Arguments) -> Value:
    """Mean over dimensions."""
    x = at.value(a["self"])
    dims = a.get("dim") or range(x.type.rank)
    return at.build.nn.mean(x, axes=tuple(sorted(d % x.type.rank for d in dims)), keepdims=a.get("keepdim", False))
