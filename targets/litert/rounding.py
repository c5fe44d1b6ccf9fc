"""How LiteRT's reference kernels round where fake-quant has to know: means, LEAKY_RELU, and QUANTIZE of integers.

Of the two roundings of a fixed-point multiplier the first one matters too: it leaves as many binary places as the
multiplier is shifted by, three for a factor of 0.1.
"""

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


@rounding("double_rounding")
class DoubleRounding(Rounding):
    """QUANTIZE of integers: a fixed-point multiplier with double rounding (reference/requantize.h)."""

    needs_source: ClassVar[bool] = True

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        assert source is not None
        made = multiply_double_rounding(whole(x / source), *quantize_multiplier(quotient(source, scale)))
        return np.asarray(made.astype(x.dtype) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        assert source is not None
        made = torch_double_rounding(torch_whole(x / source), *torch_multiplier(source.double() / scale.double()))
        return made.to(x.dtype).add_(zero)


@rounding("mean_double_rounding")
@dataclass(frozen=True)
class MeanDoubleRounding(Rounding):
    """MEAN of `count` integers: their sum by a fixed-point multiplier that holds 1 / count.

    Source: reference/reduce.h (QuantizedMeanOrSum), reduce.cc (the shift of the multiplier).
    """

    count: int
    needs_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a mean of {self.count} integers")

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        assert source is not None
        multiplier, shift = quantize_multiplier(quotient(source, scale))
        more = np.minimum(self.count.bit_length() - 1, 31 + shift)
        multiplier = (multiplier.astype(np.int64) << more) // self.count
        total = whole(x / source * x.dtype.type(self.count), self.count)
        return np.asarray(multiply_double_rounding(total, multiplier, shift - more).astype(x.dtype) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        assert source is not None
        multiplier, shift = torch_multiplier(source.double() / scale.double())
        more = (31 + shift).clamp(max=self.count.bit_length() - 1)
        total = torch_whole((x / source).mul_(self.count), self.count)
        made = torch_double_rounding(total, (multiplier << more) // self.count, shift - more)
        return made.to(x.dtype).add_(zero)


@rounding("leaky_double_rounding")
@dataclass(frozen=True)
class LeakyDoubleRounding(Rounding):
    """LEAKY_RELU of a `slope` above zero: two multipliers, formed in float32 (activations.cc, LeakyReluPrepare)."""

    slope: float
    needs_source: ClassVar[bool] = True

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        assert source is not None
        slope = x.dtype.type(self.slope)
        steps = whole(np.where(x >= 0, x / source, x / (source * slope)))
        above, below = (
            multiply_double_rounding(steps, *quantize_multiplier(step / scale)) for step in (source, source * slope)
        )
        return np.asarray(np.where(x >= 0, above, below).astype(x.dtype) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        import torch

        assert source is not None
        leaking = source * self.slope
        steps = torch_whole(torch.where(x >= 0, x / source, x / leaking))
        above, below = (
            torch_double_rounding(steps, *torch_multiplier((step / scale).double())) for step in (source, leaking)
        )
        return torch.where(x >= 0, above, below).to(x.dtype).add_(zero)


STEPS = 2**16
"""Above or below the zero point: what the differences of codes of 16 bits can be."""


def whole(steps: Array, count: int = 1) -> Array:
    """The integers next to floats, within what `count` codes add up to."""
    return np.asarray(np.clip(np.nan_to_num(np.rint(steps)), -STEPS * count, STEPS * count - 1), np.int32)


def quotient(source: Array, scale: Array) -> Array:
    """source / scale, float64, of float32 scales."""
    return np.asarray(source.astype(np.float32).astype(np.float64) / scale.astype(np.float32).astype(np.float64))


def torch_whole(steps: Tensor, count: int = 1) -> Tensor:
    """`whole` in torch; may write into `steps`."""
    return steps.round_().nan_to_num_().clamp_(-STEPS * count, STEPS * count - 1).long()


def torch_multiplier(factor: Tensor) -> tuple[Tensor, Tensor]:
    """`quantize_multiplier` of a factor above zero in torch, the shift within -31..30."""
    import torch

    fraction, exponent = torch.frexp(factor)
    multiplier = (fraction * 2.0**31 + 0.5).floor().long()
    exponent = exponent.long().clamp(-31, 30) + (multiplier == 2**31)
    multiplier = torch.where(multiplier == 2**31, 2**30, multiplier)
    return torch.where(factor < 2.0**-32, 0, multiplier), exponent


def torch_double_rounding(steps: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
    """`multiply_double_rounding` in torch, as one shift (proof: there)."""
    import torch

    product = (steps << shift.clamp(min=0)).to(torch.int32).long() * multiplier
    right = (-shift).clamp(min=0)
    second = torch.where(right > 0, (product.sign() + (product == 0)) * 2**30, 0)
    half = torch.where(right > 0, torch.ones_like(right) << (30 + right), 2**30)
    return (product + half + second) >> (31 + right)
