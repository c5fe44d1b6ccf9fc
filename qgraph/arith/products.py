"""Rows of integers times a prepared weight: by NumPy's BLAS, or by torch's product of 8-bit integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith import torch_products
from qgraph.arith.prepared_weight import ExactAccumulation, PreparedWeight

FEW = 8
"""Rows below which nothing is saved: then reading the weight takes the time."""


class Product:
    """Writes rows [R, K], of `dtype`, times the weight of a group into accumulators [R, O]."""

    dtype: np.dtype[Any]

    def __call__(self, rows: NDArray[Any], group: int, out: NDArray[Any]) -> None:
        raise NotImplementedError


class _ByBlas(Product):
    def __init__(self, weight: PreparedWeight, exact: ExactAccumulation) -> None:
        self.dtype = exact.product
        self.values = weight.values.astype(exact.product, copy=False)

    def __call__(self, rows: NDArray[Any], group: int, out: NDArray[Any]) -> None:
        if out.dtype == rows.dtype:
            np.matmul(rows, self.values[group], out=out)
        else:
            np.copyto(out, np.matmul(rows, self.values[group]), casting="unsafe")


class _ByCodes(Product):
    dtype = np.dtype(np.int8)

    def __init__(self, weights: NDArray[np.int8], multiply: Callable[..., None]) -> None:
        self.weights, self.multiply = weights, multiply
        self._memory = np.empty((0, weights.shape[2]), np.int32)

    def __call__(self, rows: NDArray[Any], group: int, out: NDArray[Any]) -> None:
        if len(self._memory) < len(rows):
            self._memory = np.empty((len(rows), self.weights.shape[2]), np.int32)
        made = self._memory[: len(rows)]
        self.multiply(rows, self.weights[group], made)
        np.copyto(out, made, casting="unsafe")


def product_of(weight: PreparedWeight, exact: ExactAccumulation, x: np.dtype[Any], rows: int) -> Product:
    """The fastest product that is exact, for so many rows of x, of its dtype."""
    if rows >= FEW and x == np.int8 and weight.codes is not None:
        multiply = torch_products.of_codes()
        if multiply is not None:
            return _ByCodes(weight.codes, multiply)
    return _ByBlas(weight, exact)
