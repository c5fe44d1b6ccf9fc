"""torch's counterparts of the ops of `nn` whose target shapes ask for sizes of their operands."""

from __future__ import annotations

import torch
from torch import Tensor

from qgraph.ops.nn.shape import resolved


def reshape(x: Tensor, like: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """`nn.reshape`."""
    return torch.reshape(x, resolved(shape, x.shape if like is None else like.shape))  # type: ignore[arg-type]  # numbers, of an array


def expand(x: Tensor, like: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """`nn.expand`."""
    return x.expand(resolved(shape, () if like is None else like.shape))  # type: ignore[arg-type]  # numbers, as above
