"""Quotients by what is next to nothing in some examples: silence, padding, a mask that hides everything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph import quantizers
from qgraph.ir import Array

FAMILY = ("litert", "litert-xnnpack", "tflm")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(33, 6)).astype(np.float32)
X[[3, 32]] = 0  # in the midst of examples, and alone in the last chunk of them
WEIGHTS = (RNG.random((33, 6)) > 0.4).astype(np.float32)
WEIGHTS[5] = 0


class Quotient(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def standardized(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)


def shares(x: Tensor) -> Tensor:
    kept = torch.softmax(x, -1) * torch.from_numpy(WEIGHTS)[: x.shape[0]]
    return kept / (kept.sum(-1, keepdim=True) + 1e-6)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "standardized": standardized,
    "by a norm": lambda x: x / (x.norm(dim=1, keepdim=True) + 1e-6),
    "by a sum": lambda x: x / x.abs().sum(1, keepdim=True).clamp(min=1e-6),
    "by the largest": lambda x: x / (x.abs().amax(1, keepdim=True) + 1e-6),
    "from 0 to 1": lambda x: (x - x.amin(1, keepdim=True)) / (x.amax(1, keepdim=True) - x.amin(1, keepdim=True) + 1e-6),
}


def decibels(wanted: Array, given: Array) -> float:
    wanted, given = wanted.astype(np.float64), given.astype(np.float64)
    return float(10 * np.log10((wanted**2).sum() / ((wanted - given) ** 2).sum()))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("target", FAMILY)
def test_an_example_of_nothing_costs_the_quotients_of_others_nothing(target: str, name: str) -> None:
    model = Quotient(FUNCTIONS[name])
    low = qgraph.quantize(qgraph.trace(model, torch.from_numpy(X)), target, calibration=[X])
    assert qgraph.verify(low, inputs=X).bit_exact
    given = np.asarray(qgraph.run(low, X, dequantize=True))
    assert decibels(model(torch.from_numpy(X)).numpy(), given) > 34
    assert not given[3].any()  # nothing over anything


@pytest.mark.parametrize("target", FAMILY)
def test_a_mask_that_hides_everything_costs_the_shares_of_others_nothing(target: str) -> None:
    model = Quotient(shares)
    graph = qgraph.trace(model, torch.from_numpy(X), dynamic_batch=False)
    low = qgraph.quantize(graph, target, calibration=[X])
    assert qgraph.verify(low, inputs=X).bit_exact
    assert decibels(model(torch.from_numpy(X)).numpy(), np.asarray(qgraph.run(low, X, dequantize=True))) > 34


@pytest.mark.parametrize("target", FAMILY)
def test_a_row_without_anything_costs_the_shares_of_others_nothing_where_these_have_16_bits(target: str) -> None:
    """Softmaxes of long rows have 16 bits, to which the reciprocals of 8 bits are brought."""
    x = RNG.normal(size=(33, 24)).astype(np.float32)
    kept = (RNG.random((33, 24)) > 0.3).astype(np.float32)
    kept[5] = 0

    class Shares(nn.Module):
        def forward(self, x: Tensor, kept: Tensor) -> Tensor:
            shares = torch.softmax(x, -1) * kept
            return shares / (shares.sum(-1, keepdim=True) + 1e-6)

    both = torch.from_numpy(x), torch.from_numpy(kept)
    batch = {"x": x, "kept": kept}
    low = qgraph.quantize(qgraph.trace(Shares(), both), target, calibration=[batch])
    assert qgraph.verify(low, inputs=batch).bit_exact
    assert decibels(Shares()(*both).numpy(), np.asarray(qgraph.run(low, batch, dequantize=True))) > 27


def test_what_is_returned_as_a_reciprocal_keeps_its_range() -> None:
    graph = qgraph.trace(Quotient(lambda x: 1 / (x.abs() + 1e-3)), torch.from_numpy(X))
    low = qgraph.quantize(graph, "litert", calibration=[X])
    largest = (1 / (torch.from_numpy(X).abs() + 1e-3)).max().numpy()
    assert low.outputs[0].type.q.scales[0] == largest / np.float32(255)


@pytest.mark.parametrize(
    ("numbers", "low", "high"),
    [([1.0, 510.0], 1, 510), ([1.0, 511.0], 0, 1), ([-1.0, 4.0, -600.0], -1, 4), ([1e6, 1e6], 1e6, 1e6)],
)
def test_a_divisor_of_less_than_half_a_step_is_left_out(numbers: list[float], low: float, high: float) -> None:
    seen = quantizers.get("reciprocal").seen(torch.tensor(numbers), None)
    assert seen.tolist() == [[low], [-high]]


@pytest.mark.parametrize(("first", "second", "high"), [(1, 511, 1), (511, 1, 1), (1, 510, 510), (2, 1, 2)])
def test_a_chunk_of_nothing_is_left_out(first: float, second: float, high: float) -> None:
    before, seen = (torch.tensor([[0.0], [-number]]) for number in (first, second))
    assert quantizers.get("reciprocal").calibrated(before, seen, 2).tolist() == [[0], [-high]]
