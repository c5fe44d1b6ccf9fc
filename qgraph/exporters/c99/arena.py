"""Where values live in one block of memory: those that are needed at one time do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 8
"""Bytes to which every value is aligned: those of the widest C type."""


class Life(NamedTuple):
    """A value of `size` bytes that is needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


def place(lives: Sequence[Life]) -> tuple[list[int], int]:
    """The offset of each value, and the bytes that all take.

    The largest first, each at the lowest place that is free while it lives.
    Source: the greedy planner of TFLite Micro (greedy_memory_planner.cc); Pisarchyk and Lee 2020, Greedy by Size.

    >>> place([Life(16, 0, 1), Life(8, 1, 2), Life(16, 2, 3)])
    ([0, 16, 0], 24)
    """
    placed: dict[int, int] = {}
    for index in sorted(range(len(lives)), key=lambda i: (-lives[i].size, lives[i].first)):
        placed[index] = _lowest(lives[index], [(offset, lives[i]) for i, offset in placed.items()])
    offsets = [placed[index] for index in range(len(lives))]
    return offsets, max((offset + _aligned(life.size) for offset, life in zip(offsets, lives, strict=True)), default=0)


def _lowest(life: Life, placed: Sequence[tuple[int, Life]]) -> int:
    taken = sorted(
        (offset, offset + _aligned(other.size))
        for offset, other in placed
        if other.first <= life.last and life.first <= other.last
    )
    at = 0
    for begin, end in taken:
        if at + life.size <= begin:
            break
        at = max(at, end)
    return at


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
