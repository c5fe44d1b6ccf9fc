"""Products that torch computes faster than NumPy, where it is loaded anyway and proves itself exact.

Nothing here loads torch, which takes a second. Its product of 8-bit integers is 4 to 8 times as fast as the one of
float32 where the processor has instructions for it; whether those saturate in 16 bits, as some do, the first use finds
out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.kept import kept_with
from qgraph.arith.windows import windows

if TYPE_CHECKING:
    from qgraph.arith.prepared_weight import PreparedWeight

Multiply = Callable[[NDArray[np.int8], NDArray[np.int8], NDArray[np.int32]], None]

_PROCESS = os.getpid()

Convolve = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def of_codes() -> Multiply | None:
    """A function that writes a [R, K] @ b [K, O] of int8 into int32 [R, O]; None where there is none that is exact."""
    torch = _torch()
    return None if torch is None else _proved_product(torch)


def of_channels(weight: PreparedWeight, stride: Sequence[int], dilation: Sequence[int]) -> Convolve | None:
    """A function that gives the depthwise convolution [n, H', W', C * M] of padded codes of 8 bits in float32,
    [n, H, W, C], with a weight of values [C, K, M]; None where there is none that is exact."""
    torch = _torch()
    if torch is None or len(stride) != 2 or not weight.is_of_8_bits or torch.is_autocast_enabled("cpu"):
        return None
    return _proved_convolution(weight, torch, tuple(stride), tuple(dilation))


def _torch() -> Any:
    """The module where it is loaded, its ops run at once, on the arrays that they are given, and its threads are there:
    they do not survive a fork, and who waits for them waits for ever."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "_int_mm") or os.getpid() != _PROCESS:
        return None
    if torch._C._len_torch_dispatch_stack() or torch._C._functorch.peek_interpreter_stack() is not None:
        return None
    return torch


def _contiguous(a: NDArray[Any]) -> NDArray[Any]:
    """a as torch makes a tensor of it: without gaps, and writeable."""
    return a if a.flags.c_contiguous and a.flags.writeable else a.copy()


@kept_with(1)
def _proved_convolution(
    weight: PreparedWeight, torch: Any, stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Convolve | None:
    """Compared with integers on both ends of the range: an algorithm that is no sum of products would show."""
    channels, _, multiplier = weight.values.shape
    taps = weight.values.transpose(0, 2, 1).reshape(channels * multiplier, 1, *weight.kernel)
    kernel = torch.from_numpy(np.ascontiguousarray(taps))

    def convolve(x: NDArray[np.float32]) -> NDArray[np.float32]:
        images = torch.from_numpy(x).permute(0, 3, 1, 2)
        made = torch.nn.functional.conv2d(images, kernel, None, stride, 0, dilation, channels)
        return np.asarray(made.permute(0, 2, 3, 1).numpy())

    sizes = [(k - 1) * d + 1 + 4 * s for k, d, s in zip(weight.kernel, dilation, stride, strict=True)]
    x = np.random.default_rng(0).choice(np.array([-128, 127, 255], np.float32), (1, *sizes, channels))
    view = windows(x.astype(np.int64), weight.kernel, stride, dilation, first_axis=1)
    wanted = np.einsum("nhwcij,ijcm->nhwcm", view, taps_of(weight).astype(np.int64))
    return convolve if np.array_equal(convolve(x), wanted.reshape(*wanted.shape[:3], -1)) else None


def taps_of(weight: PreparedWeight) -> NDArray[np.float32]:
    """The values of a depthwise weight as [*kernel, C, M]."""
    channels, _, multiplier = weight.values.shape
    return weight.values.transpose(1, 0, 2).reshape(*weight.kernel, channels, multiplier)


@lru_cache(maxsize=1)
def _proved_product(torch: Any) -> Multiply | None:
    def multiply(a: NDArray[np.int8], b: NDArray[np.int8], out: NDArray[np.int32]) -> None:
        torch._int_mm(torch.from_numpy(_contiguous(a)), torch.from_numpy(b), out=torch.from_numpy(out))

    for rows, inner, outputs in ((1, 64, 3), (5, 37, 17), (33, 256, 48), (130, 9, 5)):
        for a, b in _extremes(rows, inner, outputs):
            made = np.empty((rows, outputs), np.int32)
            try:
                multiply(a, b, made)
            except RuntimeError:
                return None
            if not np.array_equal(made, a.astype(np.int32) @ b.astype(np.int32)):
                return None
    return multiply


def _extremes(rows: int, inner: int, outputs: int) -> list[tuple[NDArray[np.int8], NDArray[np.int8]]]:
    """Operands of both ends of the range, alike and mixed: any narrower sum would saturate."""
    rng = np.random.default_rng(0)
    ends = np.array([-128, 127], np.int8)
    alike = [(np.full((rows, inner), a, np.int8), np.full((inner, outputs), b, np.int8)) for a in ends for b in ends]
    return [*alike, (rng.choice(ends, (rows, inner)), rng.choice(ends, (inner, outputs)))]
