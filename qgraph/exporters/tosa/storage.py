"""How the elements of a tensor lie in a .tosa file: little endian, int4 two a byte, int48 in six bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qgraph.exporters.flat import SCALAR_DTYPES, Array

ALIGNMENT = 8  # bytes to which the library that writes these files fills data up


def stored_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Bytes that a constant takes before they are filled up."""
    count = math.prod(shape)
    if dtype == "i4":
        return -(-count // 2)
    return 6 * count if dtype == "i48" else count * SCALAR_DTYPES[dtype].itemsize


def decode(data: Array, dtype: str, shape: Sequence[int]) -> Array:
    """The elements in bytes [n] of at least `stored_bytes`: i4 as int8, i48 as int64, others as they are.

    >>> decode(np.array([0x2F, 0x08], np.uint8), "i4", (3,))
    array([-1,  2, -8], dtype=int8)
    """
    raw = np.asarray(data, np.uint8)[: stored_bytes(dtype, shape)]
    if dtype == "i4":
        codes = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1)[: math.prod(shape)].astype(np.int8)
        return np.where(codes > 7, codes - np.int8(16), codes).reshape(tuple(shape))
    if dtype == "i48":
        wide = np.zeros((raw.size // 6, 8), np.uint8)
        wide[:, 2:] = raw.reshape(-1, 6)
        return (wide.view("<i8").reshape(tuple(shape))) >> 16  # the sign comes along
    return np.frombuffer(raw.tobytes(), SCALAR_DTYPES[dtype]).reshape(tuple(shape))


def encode(values: npt.NDArray[np.generic], dtype: str) -> Array:
    """The bytes [n] of elements, filled up with zeros to a multiple of 8.

    >>> encode(np.array([-1, 2, -8], np.int8), "i4")
    array([47,  8,  0,  0,  0,  0,  0,  0], dtype=uint8)
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    if dtype == "i4":
        codes = np.zeros(-(-flat.size // 2) * 2, np.uint8)
        codes[: flat.size] = flat.astype(np.int8).view(np.uint8) & 15
        raw: Array = np.asarray(codes[0::2] | (codes[1::2] << 4))
    elif dtype == "i48":
        raw = flat.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :6].reshape(-1)
    else:
        raw = flat.astype(SCALAR_DTYPES[dtype]).view(np.uint8)
    filled = np.zeros(-(-raw.size // ALIGNMENT) * ALIGNMENT, np.uint8)
    filled[: raw.size] = raw
    return filled
