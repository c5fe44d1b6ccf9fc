"""torch's counterparts of ops of `nn` that are no single function there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def elu(x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    """`nn.elu`."""
    below = torch.expm1(torch.clamp(x, max=0.0) * input_scale) * (alpha * scale)
    return torch.where(x > 0, x * scale, below)


def _settled_at_zero(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, without a gradient where x is 0.

    Integers reach 0 where floats do not (a variance and its epsilon below half a step), and the slope of a root, of a
    logarithm and of a quotient is infinite there: times the 0 that clamping passes back, that is NaN.
    """
    live = x != 0
    return torch.where(live, function(torch.where(live, x, 1)), function(x.detach()).detach())


def log(x: Tensor) -> Tensor:
    """`nn.log` of fake-quantized values."""
    return _settled_at_zero(torch.log, x)


def sqrt(x: Tensor) -> Tensor:
    """`nn.sqrt` of fake-quantized values."""
    return _settled_at_zero(torch.sqrt, x)


def rsqrt(x: Tensor) -> Tensor:
    """`nn.rsqrt` of fake-quantized values."""
    return _settled_at_zero(torch.rsqrt, x)


def div(a: Tensor, b: Tensor) -> Tensor:
    """`nn.div` of fake-quantized values; 0 / 0 is 0, as beside the half step by which runtimes divide at least."""
    return _settled_at_zero(lambda x: torch.div(a, torch.where((a == 0) & (x == 0), 1, x)), b)


def power(a: Tensor, b: Tensor) -> Tensor:
    """`nn.pow` of fake-quantized values."""
    return _settled_at_zero(lambda x: torch.pow(x, b), a)


def floor_div(a: Tensor, b: Tensor) -> Tensor:
    """`nn.floor_div`."""
    return torch.div(a, b, rounding_mode="floor")


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    """`nn.attention`."""
    grouped = query.shape[-3] != key.shape[-3]
    if causal and mask is not None:
        seen = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        mask = mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -torch.inf)
    return F.scaled_dot_product_attention(
        query, key, value, mask, is_causal=causal and mask is None, scale=scale, enable_gqa=grouped
    )


def layer_norm(x: Tensor, gamma: Tensor | None, beta: Tensor | None, axes: int, eps: float) -> Tensor:
    """`nn.layer_norm`."""
    return F.layer_norm(x, list(x.shape[x.ndim - axes :]), gamma, beta, eps)


def rms_norm(x: Tensor, gamma: Tensor | None, axes: int, eps: float) -> Tensor:
    """`nn.rms_norm`."""
    return F.rms_norm(x, list(x.shape[x.ndim - axes :]), gamma, eps)


def group_norm(x: Tensor, gamma: Tensor | None, beta: Tensor | None, groups: int, eps: float) -> Tensor:
    """`nn.group_norm`; by layer_norm, as torch's own refuses groups of a single element."""
    grouped = x.reshape(len(x), groups, -1)
    y = F.layer_norm(grouped, [grouped.shape[2]], None, None, eps).reshape(x.shape)
    shape = (-1, *(1,) * (x.ndim - 2))
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def prod(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """`nn.prod`."""
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keepdims)
    return x


def topk(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """`nn.topk`: of equal elements the first comes first."""
    order = torch.sort(x, dim=axis, descending=largest, stable=True)
    return order.values.narrow(axis, 0, k), order.indices.narrow(axis, 0, k)


def embedding_bag(indices: Tensor, w: Tensor, weights: Tensor | None, mode: str, padding: int | None) -> Tensor:
    """`nn.embedding_bag`."""
    return F.embedding_bag(indices, w, mode=mode, per_sample_weights=weights, padding_idx=padding)


def gather(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """`nn.gather`."""
    return index(x, (axis,), indices)


def gather_elements(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """`nn.gather_elements`."""
    return torch.gather(x, axis, indices)


REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, axis: int, reduce: str) -> Tensor:
    """`nn.scatter_elements`."""
    if reduce == "none":
        return torch.scatter(x, axis, indices, updates)
    return torch.scatter_reduce(x, axis, indices, updates, REDUCTIONS[reduce])


def index(x: Tensor, axes: tuple[int, ...], *indices: Tensor) -> Tensor:
    """`nn.index`."""
    given = dict(zip(axes, indices, strict=True))
    return x[tuple(given.get(axis, slice(None)) for axis in range(axes[-1] + 1))]


def arange(like: Tensor, axis: int, start: int, step: int) -> Tensor:
    """`nn.arange`."""
    return start + step * torch.arange(like.shape[axis], device=like.device)
