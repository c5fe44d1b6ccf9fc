"""Weights brought into the form that exact accumulation multiplies with, and the bounds that prove it exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith import torch_products
from qgraph.arith.channel_rows import PerChannel
from qgraph.arith.exactness import FLOAT32_EXACT, accumulator_dtype, largest_magnitude, product_dtype
from qgraph.arith.kept import kept_with


@dataclass(frozen=True, eq=False)
class PreparedWeight:
    """A constant weight with its zero point taken off; worth keeping where the same weight is used again.

    The output channels are cut into groups, each with its own input channels, as in a grouped convolution; output
    channel g * (O / groups) + o is column o of group g.
    """

    values: NDArray[np.float32]  # [groups, *kernel * inputs, O / groups]: exact integers
    kernel: tuple[int, ...]
    sums: NDArray[np.int64]  # [O]: sum of the values of an output channel
    magnitude: int  # the largest sum of |value| of an output channel

    @cached_property
    def codes(self) -> NDArray[np.int8] | None:
        """The values where all fit int8, and int32 their products with any int8."""
        fit = self.magnitude < 2**24 and bool((np.abs(self.values + np.float32(0.5)) < 128).all())
        return self.values.astype(np.int8) if fit else None

    @cached_property
    def is_of_8_bits(self) -> bool:
        """Whether all values are differences of 8-bit integers."""
        return bool((np.abs(self.values) < 2**8).all())

    @property
    def groups(self) -> int:
        return int(self.values.shape[0])

    @property
    def inputs(self) -> int:
        """Input channels of one group."""
        return int(self.values.shape[1]) // math.prod(self.kernel)

    @property
    def outputs(self) -> int:
        return self.sums.size


def prepare_matrix(weight: NDArray[np.integer], weight_zero_point: ArrayLike = 0) -> PreparedWeight:
    """Weight [O, K] of a product.  weight_zero_point: scalar or [O]."""
    return prepare_convolution(weight, 1, weight_zero_point)


@kept_with(1)
def prepare_convolution(
    weight: NDArray[np.integer], groups: int = 1, weight_zero_point: ArrayLike = 0
) -> PreparedWeight:
    """Weight [O, *kernel, C / groups] of a convolution.  weight_zero_point: scalar or [O]."""
    outputs = weight.shape[0]
    centred = _centred(weight.reshape(outputs, -1), np.reshape(weight_zero_point, (-1, 1)))
    values = centred.reshape(groups, outputs // groups, -1).transpose(0, 2, 1)
    return _prepared(values, weight.shape[1:-1])


@kept_with(1)
def prepare_depthwise(weight: NDArray[np.integer], weight_zero_point: ArrayLike = 0) -> PreparedWeight:
    """Weight [*kernel, C, M] of a depthwise convolution, output channel c * M + m.

    weight_zero_point: scalar or [C * M].
    """
    *kernel, channels, multiplier = weight.shape
    taps = _centred(weight.reshape(-1, channels * multiplier), np.reshape(weight_zero_point, (1, -1)))
    return _prepared(taps.reshape(-1, channels, multiplier).transpose(1, 0, 2), tuple(kernel))


@dataclass(frozen=True, eq=False)
class ExactAccumulation:
    """How the accumulation acc = x @ values + offset runs without rounding."""

    product: np.dtype[np.float32] | np.dtype[np.float64] | np.dtype[np.int64]
    acc: np.dtype[np.float32] | np.dtype[np.int32] | np.dtype[np.int64]
    offset: PerChannel  # [O] in acc's dtype


@kept_with(2)
def exact_accumulation(
    weight: PreparedWeight, bias: NDArray[np.integer] | None, x_dtype: np.dtype[np.generic], x_zero_point: int
) -> ExactAccumulation:
    """The dtypes for raw (uncentred) x, whose zero point is part of the offset: bias - x_zero_point * sum(w).

    Every partial sum of x @ values is at most max|x| * sum|w| in magnitude; adding the offset once adds |offset|.
    """
    offset = -np.int64(x_zero_point) * weight.sums
    if bias is not None:
        offset = offset + bias.astype(np.int64)
    bound = largest_magnitude(x_dtype) * weight.magnitude
    acc = accumulator_dtype(bound + int(np.abs(offset).max(initial=0)))
    return ExactAccumulation(product_dtype(bound), acc, PerChannel(offset.astype(acc)))


def recentred(x: NDArray[np.integer], x_zero_point: int, weight: PreparedWeight) -> tuple[NDArray[np.integer], int]:
    """x and its zero point; uint8 shifted to int8 by 128 where only that keeps the products within float32, or lets
    torch multiply codes.

    The same real values; the bound falls from 255 * sum|w| to 128 * sum|w|.
    """
    if x.dtype != np.uint8 or 128 * weight.magnitude >= FLOAT32_EXACT:
        return x, x_zero_point
    if 255 * weight.magnitude < FLOAT32_EXACT and (weight.codes is None or torch_products.of_codes() is None):
        return x, x_zero_point
    return (x ^ np.uint8(128)).view(np.int8), x_zero_point - 128


def _centred(weight: NDArray[np.integer], zero_point: NDArray[np.generic]) -> NDArray[np.float32]:
    """Weight - zero_point, exact in float32: both have at most 16 bits."""
    return weight.astype(np.float32) - zero_point.astype(np.float32)


def _prepared(values: NDArray[np.float32], kernel: Sequence[int]) -> PreparedWeight:
    """Sums in float64 are exact: at most 2**17 in magnitude each, fewer than 2**36 of them."""
    sums = values.sum(axis=1, dtype=np.float64).reshape(-1).astype(np.int64)
    magnitude = np.abs(values).sum(axis=1, dtype=np.float64).max(initial=0.0)
    return PreparedWeight(np.ascontiguousarray(values), tuple(kernel), sums, int(magnitude))
