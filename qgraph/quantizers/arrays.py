"""What quantizers need of arrays, of NumPy and of torch alike: one formula serves calibration with and without torch.

The two libraries have most names in common (`minimum`, `where`, `frexp`); here are the others. All of it is exact, so
that the bits are the same.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qgraph.ir import Array

if TYPE_CHECKING:
    from torch import Tensor

Numbers = TypeVar("Numbers", Array, "Tensor")
"""Arrays of NumPy, or tensors: a function gives what it is given."""


def library_of(x: Array | Tensor) -> ModuleType:
    """NumPy or torch: whose array it is."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    import torch

    return torch


def as_type(x: Numbers, name: str) -> Numbers:
    """x in the type of that name: "float32", "int64"."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np.asarray(x, name)
    return x.to(getattr(library_of(x), name))


def numbers_up_to(count: int, like: Numbers) -> Numbers:
    """0, 1, ..., where that array is."""
    if isinstance(like, np.ndarray):
        return np.arange(count)
    return library_of(like).arange(count, device=like.device)  # type: ignore[no-any-return]


def rows_along(x: Numbers, axis: int | None) -> Numbers:
    """x as rows: one for each index of an axis, one of everything for None."""
    rows: Any = x if axis is None else library_of(x).moveaxis(x, axis, 0)
    return rows.reshape(1 if axis is None else len(rows), -1)  # type: ignore[no-any-return]


def extremes(x: Numbers, axis: int | None) -> tuple[Numbers, Numbers]:
    """The least and the largest element of x, or for each index of an axis."""
    if isinstance(x, np.ndarray):
        others = tuple(i for i in range(x.ndim) if axis is not None and i != axis % x.ndim)
        return np.asarray(x.min(others or None)), np.asarray(x.max(others or None))
    library = library_of(x)
    return library.aminmax(x) if axis is None else library.aminmax(rows_along(x, axis), dim=1)  # type: ignore[no-any-return]


def kth_smallest(rows: Numbers, k: int) -> Numbers:
    """Of each row the k-th smallest element, from 1 on."""
    if isinstance(rows, np.ndarray):
        return np.asarray(np.partition(rows, k - 1, axis=1)[:, k - 1])
    return rows.kthvalue(k, dim=1).values
