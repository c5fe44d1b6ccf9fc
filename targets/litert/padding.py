"""LiteRT's two paddings, SAME and VALID, against torch's explicit pads. Source: kernels/padding.h."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """How many windows fit along one axis."""
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == "SAME" else (size - reach + stride) // stride


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """The pads (begin of each axis, then end) that SAME stands for: the odd one goes to the end."""
    return _same_pads(tuple(sizes), tuple(kernel), tuple(stride), tuple(dilation))


@lru_cache(maxsize=1024)
def _same_pads(
    sizes: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    begins, ends = [], []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        out = output_size(size, k, s, d, "SAME")
        total = max((out - 1) * s + (k - 1) * d + 1 - size, 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return (*begins, *ends)


def padding_for(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], dilation: Sequence[int]
) -> str | None:
    """ "SAME" or "VALID" where it means exactly these pads, None where an explicit PAD is needed."""
    if not any(pads):
        return "VALID"
    fits = tuple(pads) == same_pads(sizes, kernel, stride, dilation)
    return "SAME" if fits else None
