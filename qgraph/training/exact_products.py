"""Convolutions and linear layers of integers held in floats, computed exactly on whatever device they are.

A sum of products is exact in float32 where the magnitudes add up to less than 2**24, if it is computed as a sum of
products: a library may choose Winograd or FFT for a shape, which round on the way. (On an H100 cuDNN does so for 3x3
convolutions in float32, and with TF32, whose significands hold codes of 8 bits, it does not.) So every shape proves
itself on a GPU at its first use, on products that reach the bound, against float64; the first way that is exact is
taken. CPUs prove themselves once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from qgraph.arith.exactness import FLOAT32_EXACT
from qgraph.errors import InputError
from qgraph.training.windows import CONV


class Window(NamedTuple):
    """How a convolution moves: `pads` before each dimension, then after each."""

    stride: tuple[int, ...]
    pads: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class Way(NamedTuple):
    """How products are computed: in which dtype, and whether tensor cores may round float32 operands to TF32."""

    dtype: torch.dtype
    tf32: bool


WAYS = (Way(torch.float32, True), Way(torch.float32, False), Way(torch.float64, False))
"""The fastest first. Codes of more than 11 bits do not fit into TF32, which its proof shows."""
LARGEST = 255
"""The magnitude of 8-bit codes minus their zero point; a proof for it is none for codes of 16 bits."""
CPU_SHAPES = ((2, 16, 12, 12), (16, 16, 3, 3), Window((1, 1), (1, 1, 1, 1), (1, 1), 1))


def products(x: Tensor, w: Tensor, window: Window | None) -> Tensor:
    """x [N, C, *S] convolved with w [O, C/groups, *K] (pads are as wide behind as before), or the linear layer of
    x [..., C] and w [O, C] where there is no window; x, w and the result are integers in float32.

    Exact where `max|x| * sum|w|` of every channel is below 2**24 and |x| at most 255. Raises InputError where the
    device has no way.
    """
    on_cpu = x.device.type == "cpu"
    shapes = CPU_SHAPES if on_cpu else (tuple(x.shape), tuple(w.shape), window)
    return _computed(x, w, window, way_of(x.device, *shapes)).to(x.dtype)


def _computed(x: Tensor, w: Tensor, window: Window | None, way: Way) -> Tensor:
    x, w = x.to(way.dtype), w.to(way.dtype)
    with _allowing(way.tf32, x.device.type == "cuda"):
        if window is None:
            return F.linear(x, w)
        rank = len(window.stride)
        y: Tensor = CONV[rank - 1](x, w, None, window.stride, window.pads[:rank], window.dilation, window.groups)
        return y


@contextmanager
def _allowing(tf32: bool, on_cuda: bool) -> Iterator[None]:
    """TF32 on or off; nothing to do but on CUDA."""
    if not on_cuda:
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@cache
def way_of(device: torch.device, x_shape: tuple[int, ...], w_shape: tuple[int, ...], window: Window | None) -> Way:
    """The first of the `WAYS` that is exact for operands of these shapes; raises InputError where there is none."""
    for way in WAYS:
        if (way.tf32 and device.type != "cuda") or not _has(device, way.dtype):
            continue
        if way.dtype == torch.float64 or _is_exact(device, x_shape, w_shape, window, way):
            return way
    raise InputError(
        f"{device} has no exact way to compute a layer of {list(w_shape)} on {list(x_shape)}",
        help='train on another device, or with mode="fake-quant"',
    )


def _has(device: torch.device, dtype: torch.dtype) -> bool:
    return dtype != torch.float64 or device.type != "mps"


def _is_exact(
    device: torch.device, x_shape: tuple[int, ...], w_shape: tuple[int, ...], window: Window | None, way: Way
) -> bool:
    """Whether a way gives what float64 gives, for sums that reach the bound and for some that cancel."""
    generator = torch.Generator().manual_seed(0)
    length = max(1, torch.Size(w_shape[1:]).numel())
    largest = max(1, min(127, (FLOAT32_EXACT - 1) // (LARGEST * length)))
    wide = device if _has(device, torch.float64) else torch.device("cpu")
    for x_low, w_low in ((LARGEST - 3, largest - 1), (-LARGEST, -largest)):
        x = torch.randint(x_low, LARGEST + 1, x_shape, generator=generator).to(device, torch.float32)
        w = torch.randint(w_low, largest + 1, w_shape, generator=generator).to(device, torch.float32)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        made = _computed(x, w, window, way).to(wide).double()
        if not torch.equal(made, _computed(x.to(wide), w.to(wide), window, Way(torch.float64, False))):
            return False
    return True
