"""Kernels of one integer, or of two of 8 bits: evaluated once for every code, and looked up from then on."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar, cast

import numpy as np

from qgraph.ir import Array, TensorType

Kernel = TypeVar("Kernel", bound=Callable[..., Array])
UNSIGNED: dict[int, np.dtype[np.unsignedinteger]] = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}


def every_code(type: TensorType) -> Array:
    """Every integer of the type's storage, 8 or 16 bits, at the index of its bits."""
    size = type.numpy.itemsize
    return np.arange(1 << (8 * size), dtype=UNSIGNED[size].type).view(type.numpy)


def bits(x: Array) -> Array:
    """The integers of x by their bits, as an index into a table."""
    return np.asarray(x.view(UNSIGNED[x.dtype.itemsize].type))


def without_shape(type: TensorType) -> TensorType:
    """The element of a type: all that a table depends on."""
    return TensorType((), type.dtype, type.quant)


def tabulated(kernel: Kernel) -> Kernel:
    """kernel(x, type of x, result type, *words) by a table of every code of 8 or 16 bits; hashable words."""

    @lru_cache(maxsize=128)
    def table(*key: object) -> Array:
        return kernel(every_code(cast("TensorType", key[0])), *key)

    @wraps(kernel)
    def looked_up(x: Array, type: TensorType, result: TensorType, *words: object) -> Array:
        if x.dtype.itemsize not in UNSIGNED:
            return kernel(x, type, result, *words)
        return np.take(table(without_shape(type), without_shape(result), *words), bits(x))

    return cast("Kernel", looked_up)


def tabulated_pairs(kernel: Kernel) -> Kernel:
    """kernel(a, b, their types, result type, *words) by a table of all pairs of 8-bit codes; wider ones directly."""

    @lru_cache(maxsize=64)
    def table(*key: object) -> Array:
        first, second = (every_code(cast("TensorType", type)) for type in key[:2])
        return kernel(first[:, None], second, *key).reshape(-1)

    @wraps(kernel)
    def looked_up(a: Array, b: Array, ta: TensorType, tb: TensorType, result: TensorType, *words: object) -> Array:
        if a.dtype.itemsize > 1:
            return kernel(a, b, ta, tb, result, *words)
        index = np.left_shift(bits(a), 8, dtype=np.uint16) | bits(b)
        return np.take(table(*map(without_shape, (ta, tb, result)), *words), index)

    return cast("Kernel", looked_up)
