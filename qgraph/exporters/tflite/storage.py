"""How the elements of a tensor lie in a buffer: NumPy types, and the packing of types narrower than a byte.

Little endian throughout. `bf16` and the 8-bit floats, which NumPy lacks, are their bit patterns in u16 and u8.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from qgraph.exporters.flat.schema import SCALAR_DTYPES, Array

NUMPY_OF: dict[str, np.dtype[np.generic]] = {
    **SCALAR_DTYPES,
    **{
        name: np.dtype(code)
        for name, code in {
            "f16": "<f2", "c64": "<c8", "c128": "<c16", "bf16": "<u2", "f8e4m3fn": "u1", "f8e5m2": "u1",
        }.items()
    },
}  # fmt: skip

PACKED_BITS: dict[str, int] = {"i4": 4, "u4": 4, "i2": 2}  # several elements share a byte, the first in the lowest bits


def numpy_dtype(dtype: str) -> np.dtype[np.generic]:
    """The NumPy type of `Tensor.data` for a dtype's name; bytes where elements do not stand one by one."""
    return NUMPY_OF.get(dtype, np.dtype(np.uint8))


def stored_bytes(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Bytes that a constant of this dtype and shape takes; None where the shape does not say (strings, resources)."""
    count = math.prod(shape)
    if dtype in PACKED_BITS:
        return -(-count * PACKED_BITS[dtype] // 8)
    return count * NUMPY_OF[dtype].itemsize if dtype in NUMPY_OF else None


def unpack(data: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    """The elements of packed bytes `data`, one a byte (i8 or u8), in `shape`.

    >>> unpack(np.array([0x2F, 0x08], np.uint8), "i4", (3,))
    array([-1,  2, -8], dtype=int8)
    """
    bits = PACKED_BITS[dtype]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (data.view(np.uint8)[:, None] >> shifts).reshape(-1)[: math.prod(shape)] & np.uint8(2**bits - 1)
    if dtype.startswith("u"):
        return fields.reshape(shape)
    sign = np.uint8(1 << (bits - 1))
    return ((fields ^ sign).view(np.int8) - np.int8(sign)).reshape(shape)  # sign extension; |result| <= 8


def pack(values: npt.NDArray[np.integer], dtype: str) -> Array:
    """The packed bytes of integers in the range of `dtype`; the last byte is filled up with zeros.

    >>> pack(np.array([-1, 2, -8]), "i4")
    array([47,  8], dtype=uint8)
    """
    bits = PACKED_BITS[dtype]
    per_byte = 8 // bits
    fields = values.reshape(-1).astype(np.uint8) & np.uint8(2**bits - 1)
    padded = np.zeros(-(-fields.size // per_byte) * per_byte, np.uint8)
    padded[: fields.size] = fields
    shifted = padded.reshape(-1, per_byte) << np.arange(0, 8, bits, dtype=np.uint8)
    packed: Array = np.bitwise_or.reduce(shifted, axis=1)
    return packed
