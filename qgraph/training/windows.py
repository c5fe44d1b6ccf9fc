"""torch's convolution, pooling and padding with the `pads` of `nn` ops: before each dimension, then after each."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from qgraph.arith.windows import pooled_shape

CONV = (F.conv1d, F.conv2d, F.conv3d)
CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVG_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def pad(x: Tensor, pads: tuple[int, ...], value: float = 0.0) -> Tensor:
    """x with `value` around its last dimensions, as many as `pads` has pairs."""
    rank = len(pads) // 2
    widths = [
        width for i in reversed(range(rank)) for width in (pads[i], pads[rank + i])
    ]  # torch: last dimension first
    return F.pad(x, widths, value=value) if any(pads) else x


def is_symmetric(pads: tuple[int, ...]) -> bool:
    """Whether pads are as wide behind each dimension as before it."""
    return pads[: len(pads) // 2] == pads[len(pads) // 2 :]


def convolve(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Convolution of x [N, C, *S] with w [O, C/groups, *K]."""
    rank = len(stride)
    if not is_symmetric(pads):
        x, pads = pad(x, pads), (0,) * rank
    return CONV[rank - 1](x, w, bias, stride, pads[:rank], dilation, groups)


def convolve_transposed(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    output_padding: tuple[int, ...],
) -> Tensor:
    """Transposed convolution of x [N, C, *S] with w [C, O/groups, *K]."""
    rank = len(stride)
    function = CONV_TRANSPOSE[rank - 1]
    if is_symmetric(pads):
        return function(x, w, bias, stride, pads[:rank], output_padding, groups, dilation)
    full: Tensor = function(x, w, None, stride, 0, 0, groups, dilation)
    ends = (more - end for more, end in zip(output_padding, pads[rank:], strict=True))
    y = pad(full, (*(-begin for begin in pads[:rank]), *ends))  # torch crops by a negative width
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _is_torchs(pads: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether torch's pools pad so by themselves: as much on both sides, and no more than half of a window."""
    return is_symmetric(pads) and all(2 * p <= k for p, k in zip(pads, kernel * 2, strict=True))


def max_pool(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Tensor:
    """Maximum over windows; padding never wins."""
    rank = len(kernel)
    pool = MAX_POOL[rank - 1]
    if _is_torchs(pads, kernel):
        result: Tensor = pool(x, kernel, stride, pads[:rank], dilation, ceil_mode)
        return result
    full = pool(pad(x, pads, -math.inf), kernel, stride, 0, dilation, ceil_mode)
    return _first(full, x, kernel, stride, pads, dilation) if ceil_mode else full


def _first(
    y: Tensor,
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...] | None = None,
) -> Tensor:
    """The windows of `ceil_mode` on x: torch adds one that starts in padding that it was given as a part of x."""
    out = pooled_shape(x.shape[2:], kernel, stride, pads, dilation, ceil_mode=True)
    return y[(slice(None), slice(None), *(slice(size) for size in out))]


def avg_pool(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    ceil_mode: bool,
    count_include_pad: bool,
) -> Tensor:
    """Mean over windows."""
    rank = len(kernel)
    pool = AVG_POOL[rank - 1]
    if _is_torchs(pads, kernel):
        return pool(x, kernel, stride, pads[:rank], ceil_mode, count_include_pad)
    total = pool(pad(x, pads), kernel, stride, 0, ceil_mode)
    if not count_include_pad:
        total = total / pool(pad(torch.ones_like(x), pads), kernel, stride, 0, ceil_mode)
    return _first(total, x, kernel, stride, pads) if ceil_mode else total
