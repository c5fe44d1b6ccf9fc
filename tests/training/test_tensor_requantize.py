"""Requantization in torch against that in NumPy: random accumulators, and both sides of every output step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qgraph.arith.exactness import as_accumulator
from qgraph.arith.fixed_point import quantize_multiplier
from qgraph.arith.requantize import DoubleRounding, Float32Even, Float64Away, WideRounding
from qgraph.training.integer_run import looked_up
from qgraph.training.tensor_requantize import DeviceAccumulator

FACTORS = np.array([2.0**-7, 0.0031, 2.0**-3, 0.9, 1.0, 2.5, 2.0**-31, 1e-12])
CLAMPS = (
    (-3, -128, 127, np.int8),
    (0, 0, 255, np.uint8),
    (-128, -128, 127, np.int8),
    (127, 100, 127, np.int8),
    (9, -32768, 32767, np.int16),
)


def _accumulators(bound: int) -> NDArray[np.int64]:
    """[..., 8]: random ones, those around each step of each channel, and the largest."""
    rng = np.random.default_rng(0)
    steps = np.rint((np.arange(-300, 300)[:, None] + 0.5) / FACTORS).clip(-bound + 2, bound - 2).astype(np.int64)
    near = np.concatenate([steps - 1, steps, steps + 1])
    ends = np.array([[-bound + 1], [bound - 1], [0], [1], [-1]]).repeat(8, 1)
    return np.concatenate([rng.integers(-bound + 1, bound, (200, 8)), near, ends])


ENDS = np.array([-1, 0, -3, -8, 1, 2, -16, -30])
"""Shifts."""
WAYS: dict[str, tuple[Any, Any]] = {
    "float32": (Float32Even, (FACTORS.astype(np.float32),)),
    "double rounding": (DoubleRounding, quantize_multiplier(FACTORS)),
    "float64": (Float64Away, (FACTORS,)),
    "wide": (WideRounding, quantize_multiplier(FACTORS)),
    "wide, multipliers about that of the last 16 bits": (
        WideRounding,
        (
            np.int32([0x7FFEFFFF, 0x7FFF0000 - 1, 0x7FFF0000, 0x7FFF0001, 2**31 - 1, 2**30, 2**30 + 2**15, 2**30 - 1]),
            ENDS,
        ),
    ),
}


@pytest.mark.parametrize("bound", [2**12, 2**24, 2**31, 2**31 + 1, 2**32, 2**40])
@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("way", WAYS)
def test_torch_requantizes_as_numpy_does(way: str, clamp: tuple[int, int, int, type], bound: int) -> None:
    of, factors = WAYS[way]
    requantize = of(*factors, *clamp)
    acc = _accumulators(bound)
    held = torch.from_numpy(acc).to(torch.float32 if bound <= 2**24 else torch.int64)
    made = requantize(DeviceAccumulator(held, bound - 1))
    assert isinstance(made, torch.Tensor)
    expected = requantize(as_accumulator(acc, bound - 1))
    assert made.numpy().dtype == expected.dtype
    assert np.array_equal(made.numpy(), expected)


def test_a_kernel_of_another_way_takes_an_array() -> None:
    acc = DeviceAccumulator(torch.tensor([[1.0, 2.0]]), 2)
    assert np.asarray(acc).tolist() == [[1, 2]]
    assert np.asarray(acc).dtype == acc.dtype == np.float32
    assert np.asarray(acc, np.int64).dtype == np.int64
    assert acc.astype(np.int32).dtype == np.int32
    assert acc.shape == (1, 2)


def test_tables_are_read_by_the_bits_of_codes() -> None:
    pairs = np.arange(65536).astype(np.int64)
    a, b = torch.tensor([-128, -1, 0, 127], dtype=torch.int8), torch.tensor([255, 0, 1, 128], dtype=torch.uint8)
    bits = [0x80 * 256 + 255, 0xFF * 256, 1, 0x7F * 256 + 128]
    assert looked_up(pairs, [a, b]).tolist() == bits
    assert looked_up(pairs[:256], [a]).tolist() == [0x80, 0xFF, 0, 0x7F]
