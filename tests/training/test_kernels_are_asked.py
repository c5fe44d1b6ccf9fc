"""Which tensors go to kernels, with what; in their place something that keeps what it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from qgraph import quantizers
from qgraph.quantizers.gradients import STRAIGHT_THROUGH
from qgraph.training import fake_quant, observers
from qgraph.training.fake_quant import fake_quantize
from qgraph.training.observers import ActivationQuantizer, WeightQuantizer, _is_of_extremes, _momentum


class Kernels:
    """Takes everything while `taking`, and gives what it was given, doubled."""

    ROUNDINGS = ("half_even", "half_away")

    def __init__(self) -> None:
        self.taking = True
        self.observed: list[tuple[Any, ...]] = []
        self.rounded: list[tuple[Any, ...]] = []
        self.weights: list[tuple[Any, ...]] = []

    def takes(self, *_: object) -> bool:
        return self.taking

    takes_weight = takes

    def observe(self, x: Tensor, state: tuple[Tensor, ...], *given: Any) -> None:
        self.observed.append((*given[2:],))

    def fake_quantize(self, x: Tensor, *given: Any) -> Tensor:
        self.rounded.append(given)
        return x * 2

    def fake_quantize_weight(self, w: Tensor, *given: Any) -> Tensor:
        self.weights.append(given)
        return w * 2


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    made = Kernels()
    monkeypatch.setattr(observers, "kernels_for", lambda x: made)
    monkeypatch.setattr(fake_quant, "kernels_for", lambda x: made)
    return made


def test_a_range_of_extremes_moves_by_less_than_half_or_covers_everything() -> None:
    moving = quantizers.get("moving_average")
    assert _momentum(quantizers.get("min_max")) == 0.0
    assert _momentum(moving) == moving.momentum > 0  # type: ignore[attr-defined]
    found = [_momentum(replace(moving, momentum=each)) for each in (0.0, 0.499, 0.5)]  # type: ignore[call-arg]
    assert found == [None, 0.499, None]
    for other in ("percentile:90", "mse", "entropy"):
        assert _momentum(quantizers.get(other)) is None
    for name in ("min_max", "moving_average"):
        assert _momentum(replace(quantizers.get(name), power_of_two=True)) is None


def test_a_weights_scale_is_of_its_extremes_where_nothing_else_is_asked_for() -> None:
    plain = quantizers.get("min_max")
    assert _is_of_extremes(plain)
    assert not _is_of_extremes(replace(plain, power_of_two=True))
    for other in ("mse", "pair_safe", "lsq", "min_max:ewgs"):
        assert not _is_of_extremes(quantizers.get(other))
    assert plain.gradient == STRAIGHT_THROUGH


def activation(**words: Any) -> ActivationQuantizer:
    given = {"parameters": 1, "quant_range": (-128, 127), "axis": None, "observer": "moving_average"}
    return ActivationQuantizer(**{**given, "symmetric": False, **words})


def parameters(count: int = 1) -> tuple[Tensor, Tensor]:
    return torch.ones(count), torch.zeros(count, dtype=torch.int32)


def test_kernels_observe_and_round_an_activation_with_one_range(kernels: Kernels) -> None:
    quantizer, (scale, zero) = activation(), parameters()
    x = torch.tensor([[1.0, -3.0]])
    made = quantizer(x, scale, zero, None, "half_away", True)
    momentum = _momentum(quantizer.quantizer)
    assert kernels.observed == [((-128, 127), momentum, False, True)]
    assert kernels.rounded == [(scale, zero, (-128, 127), "half_away")]
    assert torch.equal(made, x * 2)
    assert quantizer.range.isnan().all()  # which the kernels write
    activation(observer="min_max", symmetric=True)(x, scale, zero, None, "half_even", False)
    assert kernels.observed[1:] == [((-128, 127), 0.0, True, False)]


@pytest.mark.parametrize(
    "words",
    [{"axis": 1, "parameters": 2}, {"has_pole": True}, {"observer": "percentile:90"}, {"observer": "min_max"}],
    ids=str,
)
def test_what_kernels_do_not_observe_goes_the_plain_way(kernels: Kernels, words: dict[str, Any]) -> None:
    quantizer, (scale, zero) = activation(**words), parameters(words.get("parameters", 1))
    if words == {"observer": "min_max"}:
        quantizer.observing = 1
    quantizer(torch.tensor([[1.0, -3.0], [2.0, 2.0]]), scale, zero, None, "half_even", True)
    assert not kernels.observed
    assert not quantizer.range.isnan().any()


def test_what_kernels_do_not_take_goes_the_plain_way(kernels: Kernels) -> None:
    kernels.taking = False
    quantizer, (scale, zero) = activation(), parameters()
    scale.fill_(torch.nan)
    made = quantizer(torch.tensor([[2.55, 0.0]]), scale, zero, None, "half_even", True)
    assert not kernels.observed
    assert not kernels.rounded
    assert scale.item() == pytest.approx(0.01)
    assert made.tolist() == [[pytest.approx(2.55), 0.0]]
    weight = WeightQuantizer((-127, 127), 0, "min_max")
    assert weight(torch.tensor([[1.27], [2.54]]), *parameters(2)).tolist() == [
        [pytest.approx(1.27)],
        [pytest.approx(2.54)],
    ]
    assert not kernels.weights


def test_kernels_round_what_has_one_scale_and_a_rounding_that_they_know(kernels: Kernels) -> None:
    x, (scale, zero) = torch.tensor([[1.4, -0.6]]), parameters()
    assert torch.equal(fake_quantize(x, scale, zero, (-128, 127)), x * 2)
    assert kernels.rounded == [(scale, zero, (-128, 127), "half_even")]
    assert fake_quantize(x, *parameters(2), (-128, 127), axis=1).tolist() == [[1, -1]]
    assert fake_quantize(x, scale, zero, (-128, 127), rounding="half_even_reciprocal").tolist() == [[1, -1]]
    ewgs = quantizers.get("lsq:ewgs").gradient
    assert fake_quantize(x, scale, zero, (-128, 127), gradient=ewgs).tolist() == [[1, -1]]
    assert len(kernels.rounded) == 1


def test_kernels_take_a_weight_with_at_most_one_layer_of_biases(kernels: Kernels) -> None:
    quantizer, (scale, zero) = WeightQuantizer((-127, 127), 0, "min_max"), parameters(2)
    w, bias, x_scale = torch.tensor([[1.0], [2.0]]), torch.ones(2), torch.ones(1)
    assert torch.equal(quantizer(w, scale, zero), w * 2)
    assert torch.equal(quantizer(w, scale, zero, bias, x_scale), w * 2)
    assert kernels.weights == [
        (scale, zero, (-127, 127), None, None, None),
        (scale, zero, (-127, 127), bias, x_scale, None),
    ]
    assert quantizer(w, scale, zero, bias, x_scale, bias, x_scale).tolist() == [[1], [2]]
    for attribute, value in (("frozen", True), ("delayed", True), ("axis", None)):
        other = WeightQuantizer((-127, 127), 0, "min_max")
        setattr(other, attribute, value)
        assert other.in_one_pass(w, scale, zero, None, None) is None
    for name in ("mse", "lsq"):
        assert WeightQuantizer((-127, 127), 0, name).in_one_pass(w, scale, zero, None, None) is None
    assert len(kernels.weights) == 2
