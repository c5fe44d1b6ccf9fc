"""Accumulators of a layer, computed a block at a time by who takes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from qgraph.arith.requantize import Codes, Requantization


class Accumulation:
    """acc [..., C] as blocks [rows, C], in order, each in memory that the next one takes.

    `Requantization` takes each block while it is in the processor's cache; who computes otherwise has an array.
    """

    def __init__(
        self, shape: Sequence[int], dtype: np.dtype[Any], blocks: Callable[[], Iterator[NDArray[Any]]]
    ) -> None:
        self.shape, self.dtype, self.blocks = tuple(shape), dtype, blocks

    def requantized(self, how: Requantization) -> NDArray[Codes]:
        """The codes [..., C]."""
        return how.of_blocks(self.shape, self.blocks())

    @cached_property
    def array(self) -> NDArray[Any]:
        """All of it."""
        made = np.empty((math.prod(self.shape[:-1]), self.shape[-1]), self.dtype)
        row = 0
        for block in self.blocks():
            made[row : row + len(block)] = block
            row += len(block)
        return made.reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.array if dtype is None else self.array.astype(dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.array, name)
