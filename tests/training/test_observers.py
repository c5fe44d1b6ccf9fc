"""How scales and zero points follow from what is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgraph import quantizers
from qgraph.errors import NotCalibrated
from qgraph.quantizers.moving_average import MOMENTUM
from qgraph.quantizers.weight_scale import torch_weight_scale, weight_scale
from qgraph.training.observers import ActivationQuantizer


def parameters() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((1,), torch.nan), torch.zeros(1, dtype=torch.int32)


def quantizer(
    observer: str = "moving_average", symmetric: bool = False, quant_range: tuple[int, int] = (-128, 127)
) -> ActivationQuantizer:
    return ActivationQuantizer(1, quant_range, None, observer, symmetric)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(5, 4, 3, 3), (1, 1), (7, 3), (4, 1, 5)]),
    st.sampled_from(["min_max", "pair_safe", "percentile:90", "mse"]),
    st.sampled_from([0, None]),
    st.sampled_from([127, 7, 1]),
)
def test_weight_scale_has_the_bits_of_numpy(
    seed: int, shape: tuple[int, ...], observer: str, axis: int | None, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=shape) * rng.choice([0.0, 1e-8, 1.0, 50.0], (shape[0], *(1,) * (len(shape) - 1)))).astype(
        np.float32
    )
    chosen = quantizers.get(observer)
    got = torch_weight_scale(torch.from_numpy(w), torch.tensor([limit], dtype=torch.int32), axis, chosen)
    assert np.array_equal(got.numpy(), weight_scale(w, limit, axis, chosen))
    assert got.dtype == torch.float32


def test_first_batch_sets_the_range_then_it_moves() -> None:
    q, (scale, zero) = quantizer(), parameters()
    q(torch.tensor([-1.0, 2.0]), scale, zero, None, "half_even", True)
    assert scale.item() == np.float32(3) / np.float32(255)
    assert zero.item() == round(-128 + 1 / (3 / 255))
    q(torch.tensor([-1.0, 4.0]), scale, zero, None, "half_even", True)
    np.testing.assert_allclose(scale.item(), (1 + 2 + 2 * MOMENTUM) / 255, rtol=1e-6)


@pytest.mark.parametrize("x", [[3.0, 4.0], [-3.0, -4.0], [-1.0, 5.0]])
def test_zero_is_exact(x: list[float]) -> None:
    q, (scale, zero) = quantizer(), parameters()
    q(torch.tensor(x), scale, zero, None, "half_even", True)
    assert -128 <= zero.item() <= 127
    assert q(torch.tensor([0.0]), scale, zero, None, "half_even", True).item() == 0.0


def test_all_zero_gives_scale_one() -> None:
    q, (scale, zero) = quantizer(), parameters()
    q(torch.zeros(4), scale, zero, None, "half_even", True)
    assert (scale.item(), zero.item()) == (1.0, -128)


def test_symmetric_keeps_the_zero_point() -> None:
    q, (scale, zero) = quantizer(symmetric=True, quant_range=(-127, 127)), parameters()
    q(torch.tensor([-1.0, 0.5]), scale, zero, None, "half_even", True)
    assert (scale.item(), zero.item()) == (np.float32(1) / np.float32(127), 0)


@pytest.mark.parametrize(
    ("x", "quant_range", "zero_point", "expected"),
    [
        ([-2.0, 0.5], (1, 255), 128, 2 / 127),
        ([-2.0, 4.0], (0, 255), 100, 4 / 155),
        ([-2.0, 2.0], (0, 255), 100, 2 / 100),
        ([-2.0, 4.0], (0, 255), 0, 4 / 255),
    ],
)
def test_a_symmetric_scale_covers_both_sides_of_its_zero_point(
    x: list[float], quant_range: tuple[int, int], zero_point: int, expected: float
) -> None:
    q, (scale, zero) = quantizer("min_max", symmetric=True, quant_range=quant_range), parameters()
    zero.fill_(zero_point)
    q(torch.tensor(x), scale, zero, None, "half_even", True)
    np.testing.assert_allclose([scale.item(), zero.item()], [expected, zero_point], rtol=1e-6)


def test_min_max_never_shrinks() -> None:
    q, (scale, zero) = quantizer("min_max"), parameters()
    for x in ([-1.0, 2.0], [-0.1, 0.1], [0.0, 3.0]):
        q(torch.tensor(x), scale, zero, None, "half_even", True)
    assert scale.item() == np.float32(4) / np.float32(255)


def test_calls_of_one_batch_are_united() -> None:
    q, (scale, zero) = quantizer(), parameters()
    for _ in range(2):
        q(torch.tensor([0.0, 1.0]), scale, zero, None, "half_even", True)
        q(torch.tensor([-3.0, 0.0]), scale, zero, None, "half_even", False)
    assert scale.item() == np.float32(4) / np.float32(255)


def test_per_axis_ranges() -> None:
    q = ActivationQuantizer(2, (-128, 127), 1, "min_max", False)
    scale, zero = torch.full((2,), torch.nan), torch.zeros(2, dtype=torch.int32)
    q(torch.tensor([[1.0, -2.0], [0.0, 0.0]]), scale, zero, None, "half_even", True)
    assert scale.tolist() == [np.float32(1) / np.float32(255), np.float32(2) / np.float32(255)]
    assert zero.tolist() == [-128, 127]


def test_eval_and_frozen_do_not_observe() -> None:
    q, (scale, zero) = quantizer(), parameters()
    q(torch.tensor([-1.0, 2.0]), scale, zero, None, "half_even", True)
    before = scale.clone()
    q.frozen = True
    q(torch.tensor([-9.0, 9.0]), scale, zero, None, "half_even", True)
    q.frozen = False
    q.eval()(torch.tensor([-9.0, 9.0]), scale, zero, None, "half_even", True)
    assert torch.equal(scale, before)


def test_uncalibrated_is_an_error() -> None:
    with pytest.raises(NotCalibrated, match="no scale"):
        quantizer().eval()(torch.ones(1), *parameters(), None, "half_even", True)


def test_goes_on_from_given_parameters() -> None:
    q, (scale, zero) = quantizer("min_max"), parameters()
    scale.fill_(0.1)
    q(torch.tensor([0.5]), scale, zero, None, "half_even", True)
    np.testing.assert_allclose([scale.item(), zero.item()], [0.1, 0], rtol=1e-6)
