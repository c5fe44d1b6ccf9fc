"""Types of values: shape, storage dtype and quantization parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.errors import InputError

Array = NDArray[Any]
Dim = int | str
"""A size: an integer, or the name of a symbolic dimension such as "N" or a product such as "N*T*49"."""
Shape = tuple[Dim, ...]

NUMPY_DTYPE: dict[str, np.dtype] = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "f16": np.dtype(np.float16),
    "i4": np.dtype(np.int8),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16),
    "u16": np.dtype(np.uint16),
    "i32": np.dtype(np.int32),
    "i48": np.dtype(np.int64),
    "i64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
"""How values of each storage type are held; those of "i4" one a byte, those of "i48" in eight (a file packs them)."""
NARROWER = {"i4": (-8, 7), "i48": (-(2**47), 2**47 - 1)}
"""Storage types that NumPy lacks, and their lowest and highest value."""
_DTYPE_NAME = {dtype: name for name, dtype in NUMPY_DTYPE.items() if name not in NARROWER}


def dtype_name(dtype: np.dtype) -> str:
    """The IR's name of a NumPy dtype, "f32" for float32; raises InputError for one that the IR does not have."""
    if dtype not in _DTYPE_NAME:
        raise InputError(f"dtype {dtype} has no counterpart in the IR", help=f"use one of {', '.join(NUMPY_DTYPE)}")
    return _DTYPE_NAME[dtype]


def integer_range(dtype: str) -> tuple[int, int]:
    """Lowest and highest value of an integer dtype, (-128, 127) for "i8"."""
    if dtype in NARROWER:
        return NARROWER[dtype]
    info = np.iinfo(NUMPY_DTYPE[dtype])
    return int(info.min), int(info.max)


@dataclass(frozen=True)
class QuantParams:
    """What the integers of a tensor mean: `real = scale * (q - zero_point)`.

    `scale` and `zero_point` hold one entry, or one for each index of `axis` (per-channel). Scales are float32 values,
    as every file format stores them.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    @staticmethod
    def of(
        scale: float | Sequence[float] | Array, zero_point: int | Sequence[int] | Array = 0, axis: int | None = None
    ) -> QuantParams:
        """Parameters from scalars or arrays; a single zero point is repeated for each scale."""
        scales = np.atleast_1d(np.asarray(scale, np.float32)).astype(np.float64)
        zeros = np.broadcast_to(np.atleast_1d(np.asarray(zero_point, np.int64)), scales.shape)
        return QuantParams(tuple(scales.tolist()), tuple(zeros.tolist()), axis)

    @cached_property
    def scales(self) -> NDArray[np.float32]:
        """The scales as float32 array, [1] or [channels]."""
        return np.array(self.scale, np.float32)

    @cached_property
    def zero_points(self) -> NDArray[np.int64]:
        """The zero points as int64 array, [1] or [channels]."""
        return np.array(self.zero_point, np.int64)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.scale, self.zero_point, self.axis))  # once: there may be a thousand channels

    def __getstate__(self) -> tuple[object, ...]:
        return self.scale, self.zero_point, self.axis

    def __setstate__(self, state: tuple[object, ...]) -> None:
        for name, value in zip(("scale", "zero_point", "axis"), state, strict=True):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class TensorType:
    """Shape and storage dtype of a value, and at the integer level its quantization parameters."""

    shape: Shape
    dtype: str = "f32"
    quant: QuantParams | None = None

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype of the storage."""
        return NUMPY_DTYPE[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether the storage is a floating-point type."""
        return self.dtype.startswith("f")

    def with_shape(self, shape: Sequence[Dim]) -> TensorType:
        """The same element type with another shape."""
        return TensorType(tuple(shape), self.dtype, self.quant)

    @property
    def q(self) -> QuantParams:
        """The quantization parameters; for kernels, whose operands have them by the op's definition."""
        if self.quant is None:
            raise InputError(f"a value of type {self} has no quantization parameters")
        return self.quant

    def __str__(self) -> str:
        return f"{format_element(self.dtype, self.quant)}[{','.join(map(str, self.shape))}]"


def format_scale(scale: float) -> str:
    """The shortest decimal that reads back as the same float32."""
    return str(np.float32(scale))


def format_element(dtype: str, quant: QuantParams | None) -> str:
    """Dtype with quantization parameters: `i8<0.5:3>`, or `i8<0.5:0,0.25:0;axis=0>` per channel."""
    if quant is None:
        return dtype
    pairs = ",".join(f"{format_scale(s)}:{z}" for s, z in zip(quant.scale, quant.zero_point, strict=True))
    return f"{dtype}<{pairs}>" if quant.axis is None else f"{dtype}<{pairs};axis={quant.axis}>"


def element_count(shape: Sequence[Dim]) -> int:
    """How many elements a value of that shape has for one example: a symbolic size counts as 1."""
    return math.prod(1 if isinstance(size, str) else size for size in shape)


def dim_product(dims: Sequence[Dim]) -> Dim:
    """Product of sizes: an integer, or symbols in alphabetical order and an integer factor.

    >>> dim_product(["T", 2, "N*2"])
    'N*T*4'
    """
    parts = [dim_factors(dim) for dim in dims]
    factor = math.prod(number for number, _ in parts)
    symbols = sorted(symbol for _, names in parts for symbol in names)
    if not symbols or not factor:
        return factor
    return "*".join(symbols if factor == 1 else [*symbols, str(factor)])


def dim_factors(dim: Dim) -> tuple[int, tuple[str, ...]]:
    """The integer factor of a size, and its symbols: (4, ("N", "T")) of "N*T*4", (7, ()) of 7."""
    if isinstance(dim, int):
        return dim, ()
    words = dim.split("*")
    return math.prod(int(word) for word in words if word.isdigit()), tuple(w for w in words if not w.isdigit())


def dim_size(dim: Dim, sizes: Mapping[str, int]) -> int:
    """A size where its symbols have these sizes, 1 where they have none: 8 of "N*4" for {"N": 2}."""
    factor, symbols = dim_factors(dim)
    return factor * math.prod(sizes.get(symbol, 1) for symbol in symbols)
