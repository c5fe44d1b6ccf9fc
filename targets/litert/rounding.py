"""How LiteRT's reference kernels round where fake-quant has to know: means, and QUANTIZE of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.arith.rounding import round_half_away
from qgraph.ir import Array
from qgraph.quantizers.rounding import OfMean, Rounding, rounding, torch_half_away

if TYPE_CHECKING:
    from torch import Tensor


@rounding("half_away_code")
@dataclass(frozen=True)
class HalfAwayCode(OfMean):
    """AVERAGE_POOL_2D: the code as it is stored, half away from zero."""

    def of_steps(self, steps: Array, zero: Array) -> Array:
        return np.asarray(round_half_away(steps + zero))

    def of_torch_steps(self, steps: Tensor, zero: Tensor) -> Tensor:
        return torch_half_away(steps.add_(zero))


@rounding("half_away_twice")
@dataclass(frozen=True)
class HalfAwayTwice(OfMean):
    """MEAN: what lies above the zero point, first to some binary places, a tie up, then half away.

    Source: reference/reduce.h.
    """

    @property
    def one(self) -> int:
        """A step in units of the binary places that are kept between the two roundings."""
        return int(2 ** max(self.count.bit_length() - 2, 0))

    def of_steps(self, steps: Array, zero: Array) -> Array:
        one = steps.dtype.type(self.one)
        return np.asarray(round_half_away(np.floor(steps * one + steps.dtype.type(0.5)) / one) + zero)

    def of_torch_steps(self, steps: Tensor, zero: Tensor) -> Tensor:
        return torch_half_away(steps.mul_(self.one).add_(0.5).floor_().div_(self.one)).add_(zero)


@rounding("double_rounding")
class DoubleRounding(Rounding):
    """QUANTIZE of integers: a fixed-point multiplier with double rounding (reference/requantize.h)."""

    needs_source: ClassVar[bool] = True

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        assert source is not None
        steps = np.clip(np.nan_to_num(np.rint(x / source)), *STEPS).astype(np.int32)
        factor = source.astype(np.float32).astype(np.float64) / scale.astype(np.float32).astype(np.float64)
        return np.asarray(multiply_double_rounding(steps, *quantize_multiplier(factor)).astype(x.dtype) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        assert source is not None
        steps = (x / source).round_().nan_to_num_().clamp_(*STEPS).long()
        return double_rounding(steps, source.float().double() / scale.float().double()).to(x.dtype).add_(zero)


STEPS = (-(2**16), 2**16 - 1)
"""Above the zero point: what the differences of codes of 16 bits can be."""


def double_rounding(steps: Tensor, factor: Tensor) -> Tensor:
    """`multiply_double_rounding` by `quantize_multiplier(factor)` in torch, as one shift (proof: there); factor > 0."""
    import torch

    fraction, exponent = torch.frexp(factor)
    multiplier = (fraction * 2.0**31 + 0.5).floor().long()
    exponent = exponent.long().clamp(-31, 30) + (multiplier == 2**31)
    multiplier = torch.where(multiplier == 2**31, 2**30, multiplier)
    multiplier = torch.where(factor < 2.0**-32, 0, multiplier)
    product = (steps << exponent.clamp(min=0)).to(torch.int32).long() * multiplier
    right = (-exponent).clamp(min=0)
    second = torch.where(right > 0, (product.sign() + (product == 0)) * 2**30, 0)
    half = torch.where(right > 0, torch.ones_like(right) << (30 + right), 2**30)
    return (product + half + second) >> (31 + right)
