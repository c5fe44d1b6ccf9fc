"""What the ops check: element types, zero points, shapes that broadcast, and results that the specification leaves
open ("REQUIRE")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir import Array, Dim, TensorType
from qgraph.ir.types import integer_range

MAX_RANK = 6
"""Of level 8K."""
MAX_KERNEL = MAX_STRIDE = 8192
"""Of level 8K."""


def check_types(op: str, admitted: Iterable[str], *types: TensorType) -> None:
    """Raise TypeMismatch unless the storage types are one of the combinations, such as "i8 i8 i32"."""
    given = " ".join(type.dtype for type in types)
    if given not in admitted:
        raise TypeMismatch(f"{op} of {given} is not in TOSA's integer profile", help=f"it has {', '.join(admitted)}")


def check_zero_point(op: str, zero_point: int, type: TensorType, unsigned: bool = False) -> None:
    """Raise TypeMismatch for a zero point that the storage cannot hold; only 8 bits (or u16) have one but 0."""
    low, high = integer_range(type.dtype)
    if unsigned and type.dtype == "i16":
        allowed = zero_point in (0, 2**15)
    elif unsigned:
        allowed = 0 <= zero_point <= high - low
    else:
        allowed = low <= zero_point <= high if type.dtype == "i8" else zero_point == 0
    if not allowed:
        kind = f"unsigned {type.dtype}" if unsigned else type.dtype
        raise TypeMismatch(f"{op}: {zero_point} is no zero point of {kind}")


def check_rank(op: str, *types: TensorType, least: int = 0) -> None:
    """Raise TypeMismatch for a rank that level 8K, or the op, does not have."""
    for type in types:
        if not least <= type.rank <= MAX_RANK:
            raise TypeMismatch(f"{op}: {type} has rank {type.rank}, not {least} to {MAX_RANK}")


def check_axis(op: str, axis: int, type: TensorType) -> None:
    """Raise TypeMismatch unless the axis is one of the value's."""
    check_rank(op, type, least=1)
    if not 0 <= axis < type.rank:
        raise TypeMismatch(f"{op}: {type} has no axis {axis}")


def broadcast(op: str, *types: TensorType) -> tuple[Dim, ...]:
    """The shape of values of one rank, each size 1 or that of the others; raises TypeMismatch."""
    check_rank(op, *types)
    if len({type.rank for type in types}) != 1:
        raise TypeMismatch(f"{op}: {', '.join(map(str, types))} are not of one rank")
    sizes = []
    for dims in zip(*(type.shape for type in types), strict=True):
        wide = {dim for dim in dims if dim != 1}
        if len(wide) > 1:
            raise TypeMismatch(f"{op}: {', '.join(map(str, types))} do not broadcast")
        sizes.append(next(iter(wide), 1))
    return tuple(sizes)


def check_limits(op: str, least: int, most: int, **words: Sequence[int]) -> None:
    """Raise TypeMismatch for numbers outside of the limits of the op and of level 8K."""
    for name, numbers in words.items():
        if numbers and not least <= min(numbers) <= max(numbers) <= most:
            raise TypeMismatch(f"{op}: {name}={list(numbers)} is not within {least} and {most}")


def exact_windows(op: str, space: Dim, stride: int) -> Dim:
    """1 + space / stride, which the specification wants without a remainder; raises TypeMismatch."""
    if not isinstance(space, int) or space < 0 or space % stride:
        raise TypeMismatch(f"{op}: windows of stride {stride} do not fit into {space} without a remainder")
    return space // stride + 1


def within(op: str, values: Array, dtype: str) -> Array:
    """Exact integers in the storage of `dtype`; raises InputError where they leave it: the result is unpredictable."""
    low, high = integer_range(dtype)
    if values.size and (values.min() < low or values.max() > high):
        beyond = values.min() if values.min() < low else values.max()
        raise unpredictable(op, f"{beyond} leaves {dtype}")
    return values.astype(TensorType((), dtype).numpy, copy=False)


def unpredictable(op: str, why: str) -> InputError:
    """The error for values whose result the specification leaves open."""
    return InputError(f"{op}: {why}, where TOSA's result is unpredictable", help="give inputs within the op's range")


def wide(x: Array) -> Array:
    """Integers in int64."""
    return x.astype(np.int64)
