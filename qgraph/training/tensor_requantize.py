"""Accumulators on a device: the ways of `qgraph.arith.requantize` in torch, so that they need not leave it.

A kernel of a target that is given such accumulators requantizes them there, whichever of the three ways it goes, and
gives a tensor of codes; one that computes otherwise takes them as a NumPy array, which they are then made into.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qgraph.arith.exactness import Accumulator, as_accumulator
from qgraph.arith.requantize import requantize_double_rounding, requantize_float64_away, requantize_fp32

DTYPES: dict[type, torch.dtype] = {np.int8: torch.int8, np.uint8: torch.uint8, np.int16: torch.int16}


class DeviceAccumulator:
    """Exact integers [..., C] of magnitude up to `bound`, in float32, float64 or int64 on any device."""

    def __init__(self, tensor: Tensor, bound: int) -> None:
        self.tensor, self.bound = tensor, bound

    @cached_property
    def array(self) -> Accumulator:
        """The same for NumPy."""
        return as_accumulator(self.tensor.cpu().numpy(), self.bound)

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


def _codes(value: Tensor, zero_point: int, quant_min: int, quant_max: int, dtype: type) -> Tensor:
    """`clamp(value + zero_point)`; value is overwritten, and small enough for the sum."""
    return value.clamp_(quant_min - zero_point, quant_max - zero_point).add_(zero_point).to(DTYPES[dtype])


def _fp32(
    acc: DeviceAccumulator, scale: ArrayLike, zero_point: int, quant_min: int, quant_max: int, dtype: type
) -> Tensor:
    value = acc.tensor if acc.bound < 2**31 else acc.int32
    value = value.to(torch.float32) * acc.along(np.asarray(scale, np.float32), torch.float32)
    return _codes(value.round_(), zero_point, quant_min, quant_max, dtype)


def _double_rounding(
    acc: DeviceAccumulator,
    multiplier: ArrayLike,
    shift: ArrayLike,
    zero_point: int,
    quant_min: int,
    quant_max: int,
    dtype: type,
) -> Tensor:
    """The steps of `multiply_double_rounding`; adding the zero point wraps at int32."""
    shifts = np.asarray(shift, np.int64)
    left, right = acc.along(np.maximum(shifts, 0), torch.int64), acc.along(np.maximum(-shifts, 0), torch.int64)
    value = (acc.int32.to(torch.int64) << left).to(torch.int32).to(torch.int64)
    product = value.mul_(acc.along(multiplier, torch.int64))
    twice = right > 0
    half = (1 << (30 + right)) + torch.where(twice, 2**30, 0)
    product = product.add_((product >> 63) & torch.where(twice, -(2**31), 0)).add_(half).__rshift__(31 + right)
    total = product.to(torch.int32).add_(zero_point)
    return total.clamp_(quant_min, quant_max).to(DTYPES[dtype])


def _float64_away(
    acc: DeviceAccumulator, multiplier: ArrayLike, zero_point: int, quant_min: int, quant_max: int, dtype: type
) -> Tensor:
    value = acc.int32.to(torch.float64) * acc.along(np.asarray(multiplier, np.float64), torch.float64)
    value = value.add_(torch.copysign(torch.full_like(value, np.nextafter(0.5, 0.0)), value)).trunc_()
    whole = torch.where(value.abs() < 2.0**31, value, -(2.0**31)).to(torch.int64)
    return (whole + zero_point).to(torch.int32).clamp_(quant_min, quant_max).to(DTYPES[dtype])


def _register() -> None:
    ways: dict[Any, Any] = {
        requantize_fp32: _fp32,
        requantize_double_rounding: _double_rounding,
        requantize_float64_away: _float64_away,
    }
    for way, on_device in ways.items():
        way.register(DeviceAccumulator, on_device)


_register()
