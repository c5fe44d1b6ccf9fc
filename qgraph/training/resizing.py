"""torch's counterparts of the ops of `nn` that resample images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

LINEAR = ("linear", "bilinear", "trilinear")
ADAPTIVE_AVG = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
ADAPTIVE_MAX = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)


def resize(x: Tensor, size: tuple[int, ...], mode: str, align_corners: bool, steps: tuple[float, ...] | None) -> Tensor:
    """`nn.resize`."""
    rank = len(size)
    words = {"nearest": "nearest", "linear": LINEAR[rank - 1], "cubic": "bicubic"}
    scales: list[float | None] = [None] * rank if steps is None else [1 / step for step in steps]
    name = f"upsample_{words[mode]}{rank}d"
    aligned = [] if mode == "nearest" else [align_corners]
    made: Tensor = getattr(torch.ops.aten, name)(x, list(size), *aligned, *scales)
    return made


def adaptive_avg_pool(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """`nn.adaptive_avg_pool`."""
    pool: Callable[..., Tensor] = ADAPTIVE_AVG[len(size) - 1]
    return pool(x, size)


def adaptive_max_pool(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """`nn.adaptive_max_pool`."""
    pool = ADAPTIVE_MAX[len(size) - 1]
    made: Tensor = pool(x, size)
    return made


def grid_sample(x: Tensor, grid: Tensor, mode: str, padding: str, align_corners: bool) -> Tensor:
    """`nn.grid_sample`."""
    return F.grid_sample(x, grid, mode, padding, align_corners)
