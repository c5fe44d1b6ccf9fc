"""Codes, zero points and parameters of every integer storage type."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array, QuantParams
from qgraph.ir.types import NUMPY_DTYPE, integer_range
from tests.targets.litert.op_cases import Rng, scale


def every_code(storage: str) -> Array:
    """Every integer of the type, [1, 256] or [1, 65536]."""
    low, high = integer_range(storage)
    return np.arange(low, high + 1).astype(NUMPY_DTYPE[storage]).reshape(1, -1)


def zero_point(rng: Rng, storage: str) -> int:
    """A zero point: an extreme in every second case; 0 for 16 bits."""
    if storage == "i16":
        return 0
    low, high = integer_range(storage)
    return int(rng.choice([low, high, *rng.integers(low, high + 1, 2)]))


def quant(rng: Rng, storage: str, low: float = -8, high: float = 2) -> QuantParams:
    """Per-tensor parameters; scales of 16 bits are 2**8 times finer."""
    finer = 8 if storage == "i16" else 0
    return QuantParams.of(scale(rng, low - finer, high - finer), zero_point(rng, storage))


def codes(rng: Rng, shape: tuple[int, ...], storage: str) -> Array:
    """Random integers: uniform, only the extremes, or constant."""
    low, high = integer_range(storage)
    kind = rng.integers(8)
    dtype = NUMPY_DTYPE[storage]
    if kind == 0:
        return rng.choice(np.array([low, high], dtype), shape)
    if kind == 1:
        return np.full(shape, rng.integers(low, high + 1), dtype)
    return rng.integers(low, high + 1, shape).astype(dtype)
