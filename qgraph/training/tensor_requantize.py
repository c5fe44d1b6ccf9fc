"""Accumulators on a device: the ways of `qgraph.arith.requantize` in torch, so that they need not leave it.

A kernel of a target that is given such accumulators requantizes them there, whichever of their ways it goes, and
gives a tensor of codes; one that computes otherwise takes them as a NumPy array, which they are then made into.
"""

from __future__ import annotations

from functools import cached_property, singledispatch
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qgraph.arith.exactness import Accumulator, as_accumulator
from qgraph.arith.requantize import BELOW_HALF, DoubleRounding, Float32Even, Float64Away, Requantization, WideRounding

DTYPES: dict[type, torch.dtype] = {np.int8: torch.int8, np.uint8: torch.uint8, np.int16: torch.int16}


class DeviceAccumulator:
    """Exact integers [..., C] of magnitude up to `bound`, in float32, float64 or int64 on any device."""

    def __init__(self, tensor: Tensor, bound: int) -> None:
        self.tensor, self.bound = tensor, bound

    @cached_property
    def array(self) -> Accumulator:
        """The same for NumPy."""
        return as_accumulator(self.tensor.cpu().numpy(), self.bound)

    def requantized(self, how: Requantization) -> Tensor:
        """The codes, on the device."""
        return _requantized(how, self)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array if dtype is None else self.array.astype(dtype)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.array, name)

    @property
    def int32(self) -> Tensor:
        """As a runtime's accumulators hold it: modulo 2**32."""
        return self.tensor.to(torch.int64).to(torch.int32)

    def along(self, values: ArrayLike, dtype: torch.dtype) -> Tensor:
        """Parameters, scalars or [C], beside it."""
        return torch.from_numpy(np.atleast_1d(np.asarray(values)).copy()).to(self.tensor.device, dtype)


def _codes(value: Tensor, how: Requantization) -> Tensor:
    """`clamp(value + zero_point)`; value is overwritten, and small enough for the sum."""
    zero_point = how.zero_point
    return value.clamp_(how.quant_min - zero_point, how.quant_max - zero_point).add_(zero_point).to(DTYPES[how.dtype])


@singledispatch
def _requantized(how: Requantization, acc: DeviceAccumulator) -> Tensor:
    raise NotImplementedError(type(how).__name__)


@_requantized.register
def _float32_even(how: Float32Even, acc: DeviceAccumulator) -> Tensor:
    value = acc.tensor if acc.bound < 2**31 else acc.int32
    value = value.to(torch.float32) * acc.along(how.scale, torch.float32)
    return _codes(value.round_(), how)


@_requantized.register
def _double_rounding(how: DoubleRounding, acc: DeviceAccumulator) -> Tensor:
    """The steps of `multiply_double_rounding`; adding the zero point wraps at int32."""
    shifts = how.shift.astype(np.int64)
    left, right = acc.along(np.maximum(shifts, 0), torch.int64), acc.along(np.maximum(-shifts, 0), torch.int64)
    value = (acc.int32.to(torch.int64) << left).to(torch.int32).to(torch.int64)
    product = value.mul_(acc.along(how.multiplier, torch.int64))
    twice = right > 0
    half = (1 << (30 + right)) + torch.where(twice, 2**30, 0)
    product = product.add_((product >> 63) & torch.where(twice, -(2**31), 0)).add_(half).__rshift__(31 + right)
    total = product.to(torch.int32).add_(how.zero_point)
    return total.clamp_(how.quant_min, how.quant_max).to(DTYPES[how.dtype])


@_requantized.register
def _float64_away(how: Float64Away, acc: DeviceAccumulator) -> Tensor:
    value = acc.int32.to(torch.float64) * acc.along(how.multiplier, torch.float64)
    value = value.add_(torch.copysign(torch.full_like(value, BELOW_HALF), value)).trunc_()
    whole = torch.where(value.abs() < 2.0**31, value, -(2.0**31)).to(torch.int64)
    return (whole + how.zero_point).to(torch.int32).clamp_(how.quant_min, how.quant_max).to(DTYPES[how.dtype])


@_requantized.register
def _wide_rounding(how: WideRounding, acc: DeviceAccumulator) -> Tensor:
    """The steps of `multiply_wide`."""
    multipliers = np.where(how.multiplier < 0x7FFF0000, (how.multiplier.astype(np.int64) + (1 << 15)) >> 16, 0x7FFF)
    shift = acc.along(15 - how.shift.astype(np.int64), torch.int64)
    product = acc.tensor.to(torch.int64) * acc.along(multipliers, torch.int64)
    value = product.add_(torch.ones_like(shift) << (shift - 1)).__rshift__(shift).to(torch.int32).to(torch.int64)
    return value.add_(how.zero_point).clamp_(how.quant_min, how.quant_max).to(DTYPES[how.dtype])
