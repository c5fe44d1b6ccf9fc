"""Pooling and means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.composed import scaled
from qgraph.frontends.target_shapes import reshaped
from qgraph.frontends.torch_nodes import arguments_of
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
    """Maximum over a window. Where it is, `max_unpool` alone can use, which asks for it itself."""
    at.expect_first_only(but="max_unpool")
    return [_max_pool(at, a)] * 2


@aten("max_unpool2d.default")
def max_unpool(at: Importer, a: Arguments) -> Value:
    """Each element at the place of the maximum of its window, zeros elsewhere; of windows that lie side by side."""
    x, y = _pooled_before(at, a["indices"]), at.value(a["self"])
    (rows, columns), (height, width) = known_sizes(y.type.shape[2:]), known_sizes(x.type.shape[2:])
    if at.result_type().shape != x.type.shape or height % rows or width % columns:
        raise TypeMismatch("an unpooling of windows that are not side by side, or to another size, is not supported")
    sizes = known_sizes((x.type.shape[1], rows, height // rows, columns, width // columns))
    channels, count = sizes[0], sizes[2] * sizes[4]
    apart = at.build.nn.transpose(reshaped(at.build, x, (x.type.shape[0], *sizes)), perm=(0, 1, 2, 4, 3, 5))
    windows = reshaped(at.build, apart, (x.type.shape[0], channels, rows, columns, count))
    first = at.build.nn.argmax(windows, axis=4, keepdims=True)
    held = at.build.nn.equal(first, at.build.constant(np.arange(count), "places"))
    values = reshaped(at.build, y, (*y.type.shape, 1))
    made = at.build.nn.where(held, values, at.value(0.0))
    made = reshaped(at.build, made, (x.type.shape[0], channels, rows, columns, sizes[2], sizes[4]))
    made = at.build.nn.transpose(made, perm=(0, 1, 2, 4, 3, 5))
    return reshaped(at.build, made, x.type.shape)


def _pooled_before(at: Importer, indices: Any) -> Value:
    """The operand of the max-pool of windows side by side whose places these are; raises TypeMismatch for others."""
    maker = indices.args[0] if indices.args and hasattr(indices.args[0], "args") else None
    if maker is not None and "max_pool2d_with_indices" in str(maker.target):
        given = arguments_of(maker, maker.target)
        kernel, still = each_size(given["kernel_size"], 2), ((0, 0), (1, 1), False)
        rest = each_size(given["padding"], 2), each_size(given["dilation"], 2), given["ceil_mode"]
        if (each_size(given["stride"], 2) if given["stride"] else kernel) == kernel and rest == still:
            return at.value(given["self"])
    raise TypeMismatch("an unpooling by other places than those of a max-pool of windows side by side is not supported")


@aten("mean.dim", "mean.default")
def mean(at: Importer, a: Arguments) -> Value:
    """Mean over dimensions."""
    x = at.value(a["self"])
    dims = a.get("dim") or range(x.type.rank)
    return at.build.nn.mean(x, axes=tuple(sorted(d % x.type.rank for d in dims)), keepdims=a.get("keepdim", False))
