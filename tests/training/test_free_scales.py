"""Scales of nothing: weights that are zero or tiny, activations that are dead; the bias survives, on every target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.ir import Graph
from qgraph.training import calibrate, from_torch, to_torch

TARGETS = ("litert", "litert-xnnpack", "tflm", "onnxruntime")


def zero(m: nn.Module) -> None:
    nn.init.zeros_(m.weight)


def pruned(m: nn.Module) -> None:
    m.weight[0].zero_()
    m.bias[0] = 5.0


def tiny(m: nn.Module) -> None:
    m.weight.mul_(1e-9)
    m.bias[0] = -4.5


def tiny_channel(m: nn.Module) -> None:
    m.weight[1].mul_(1e-7)
    m.bias[1] = 3.0


def without_bias(m: nn.Module) -> None:
    nn.init.zeros_(m.weight)
    nn.init.zeros_(m.bias)


CHANGED = {zero: slice(None), pruned: 0, tiny: slice(None), tiny_channel: 1, without_bias: slice(None)}
"""The channels that have weights of nothing: their results are their biases."""

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(4, 4, 3),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
    "linear": lambda: nn.Linear(6, 4),
}


def result_of(model: nn.Module, x: torch.Tensor, target: str, **options: str) -> tuple[np.ndarray, np.ndarray, Graph]:
    graph = qgraph.trace(model.eval(), x)
    lowered = qgraph.quantize(graph, target, calibration=[x.numpy()], **options)
    assert qgraph.verify(lowered, inputs=x.numpy()).bit_exact
    made = np.asarray(qgraph.run(lowered, x.numpy(), dequantize=True, layout="NCHW"))
    return made, np.asarray(qgraph.run(graph, x.numpy())), lowered


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("change", [zero, pruned, tiny, tiny_channel, without_bias])
@pytest.mark.parametrize("size", [0.01, 100.0])
def test_the_bias_survives_beside_weights_of_nothing(
    target: str, layer: str, change: Callable[[nn.Module], None], size: float
) -> None:
    torch.manual_seed(1)
    module = LAYERS[layer]()
    with torch.no_grad():
        change(module)
    x = torch.randn(4, 6) if layer == "linear" else torch.randn(4, 4, 6, 6)
    options = [{}, {"weights": "per-tensor"}] if target == "litert" else [{}]
    for words in options:
        made, exact, _ = result_of(module, x * size, target, **words)
        room = max(np.ptp(np.append(exact, 0.0)) / 255, 1e-9)
        error = np.abs(made - exact)
        assert error.max() < 2.5 * room  # of channels with ordinary weights, by those and by x
        assert error[:, CHANGED[change]].max() < 0.6 * room


@pytest.mark.parametrize("target", TARGETS)
def test_a_channel_without_gain_is_its_shift(target: str) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with torch.no_grad():
        model[1].weight[:2].zero_()
        model[1].bias[0] = 3.0
    made, exact, _ = result_of(model, torch.randn(4, 4, 6, 6), target)
    assert np.abs(made - exact)[:, :2].max() < 0.51 * np.ptp(exact) / 255


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_an_activation_that_is_dead_in_calibration_leaves_room_for_the_bias_behind(target: str, size: float) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    with torch.no_grad():
        model[0].bias.fill_(-20.0 * size)
        model[2].bias.copy_(torch.tensor([0.1, -0.05, 0.02, 0.07]))
    made, exact, _ = result_of(model, torch.randn(4, 4, 8, 8) * size, target)
    assert np.abs(made - exact).max() < 0.6 * np.ptp(exact) / 255


def test_training_and_graph_have_the_scales_that_lowering_uses() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.fill_(3.0)
    x = torch.randn(4, 4, 6, 6)
    module = calibrate(to_torch(qgraph.prepare(qgraph.trace(model.eval(), x), "litert")), [x])
    graph = from_torch(module)
    lowered = qgraph.lower(graph, "litert")
    weight = lowered.find("litert.conv_2d")[0].operand(1)
    assert weight.type.q.scale == tuple(graph.constants["0.weight_scale"].data.tolist())
    assert from_torch(to_torch(graph)) == graph


class Of(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


ZEROS = torch.zeros(8)
BESIDE_ZEROS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a sum with a constant": lambda x: x * 1e-4 + ZEROS,
    "a difference": lambda x: ZEROS - x * 1e-4,
    "a sum with a relu": lambda x: torch.relu(x * 1e-4 + ZEROS),
    "a product with a constant": lambda x: x * 1e5 * ZEROS,
    "a sum with a dead value": lambda x: (x - x) + x * 1e-4,
    "a product with a dead value": lambda x: (x - x) * x * 1e5,
    "a function of a dead value": lambda x: torch.tanh((x - x) * 0.25) + x,
    "a softmax of a dead value": lambda x: torch.softmax(x - x, 1) + x,
    "a norm without a shift": lambda x: nn.functional.layer_norm(x * 1e-4, (8,), None, ZEROS),
}


@pytest.mark.parametrize("activations", ["i8", "i16"])
@pytest.mark.parametrize("name", BESIDE_ZEROS)
def test_litert_takes_zeros_beside_values_of_any_size(name: str, activations: str) -> None:
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    got, expected, _ = result_of(Of(BESIDE_ZEROS[name]), x, "litert", activations=activations)
    assert np.abs(got - expected).max() <= np.abs(expected).max() / 50


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
def test_the_mean_of_what_was_normalized_has_a_scale_that_runtimes_take(target: str) -> None:
    norm = lambda x: nn.functional.layer_norm(x, x.shape[1:])  # noqa: E731
    x = torch.randn(4, 4096, generator=torch.Generator().manual_seed(0))
    got, expected, _ = result_of(Of(lambda x: norm(norm(x))), x, target)
    assert np.abs(got - expected).max() < 0.2
