"""Cross-layer equalization: the same function, and one scale that serves every channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.ir import Graph
from qgraph.passes.engine.log import Log, logging_to


def unequal(model: nn.Module, x: torch.Tensor) -> Graph:
    """The model's graph after its layers' channels got ranges from 1 to 1/200."""
    torch.manual_seed(0)
    layers = [each for each in model.modules() if isinstance(each, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    with torch.no_grad():
        for layer in layers[:-1]:
            gain = torch.logspace(0, -2.3, len(layer.bias))
            if isinstance(layer, nn.ConvTranspose2d):  # [C, O / groups, *K]
                grouped = layer.weight.unflatten(0, (layer.groups, -1))
                grouped *= gain.reshape(layer.groups, 1, -1, 1, 1)
            else:
                layer.weight *= gain.reshape(-1, *[1] * (layer.weight.ndim - 1))
            layer.bias *= gain
        layers[-1].weight *= 50
    return qgraph.trace(model.eval(), x)


CHAINS = {
    "convolutions, one depthwise": lambda: nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.LeakyReLU(0.2), nn.Conv2d(6, 3, 1))
    ),
    "groups and pools": lambda: nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 1, groups=2), nn.PReLU(6), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 2, 1),),
    ),
    "transposed": lambda: nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.ReLU(), nn.Conv2d(6, 2, 1))
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_function_stays_and_both_sides_have_ranges_of_one_size(name: str) -> None:
    x = torch.randn(2, 2, 10, 9)
    graph = unequal(CHAINS[name](), x)
    made = qgraph.passes.equalize(graph)
    before, after = (qgraph.run(each, x.numpy()) for each in (graph, made))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())
    layers = [node for node in made.nodes if "conv" in node.op]
    first, second = layers[:2]
    given = np.abs(first.operand(1).data).reshape(len(first.operand(1).data), -1).max(1)
    w = np.abs(second.operand(1).data)
    if second.op == "nn.conv_transpose":
        taken = w.reshape(len(w), -1).max(1)
    else:
        groups = second.attrs["groups"]
        taken = np.concatenate([part.max((0, 2, 3)) for part in np.split(w, groups)])
    np.testing.assert_allclose(given, taken, rtol=2e-3)
    again = qgraph.passes.equalize(made)
    assert str(again) == str(made)
    for constant, value in again.constants.items():
        assert np.array_equal(value.data, made.constants[constant].data), "what is equal stays as it is"


def test_channels_go_through_a_mean_into_a_linear_layer() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 5, 1), nn.Linear(5, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.relu(self.conv(x)).mean((2, 3)))

    x = torch.randn(2, 3, 6, 7)
    graph = unequal(Head(), x)
    made = qgraph.passes.equalize(graph)
    assert {"conv.weight.folded", "linear.weight.folded"} <= {*made.constants}
    before, after = (qgraph.run(each, x.numpy()) for each in (graph, made))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


def test_channels_of_different_sizes_survive_eight_bits() -> None:
    """Channels of which the next layer undoes the sizes: one grid for all of them has few steps for the small ones."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 3, 1)
    gain = torch.logspace(0, -2.3, 8)
    with torch.no_grad():
        first.weight *= gain.reshape(-1, 1, 1, 1)
        first.bias *= gain
        second.weight /= gain.reshape(1, -1, 1, 1)
    x = torch.randn(64, 2, 10, 9)
    graph = qgraph.trace(nn.Sequential(first, nn.ReLU(), second), x)
    reference = qgraph.run(graph, x.numpy())

    def decibels(source: Graph) -> float:
        low = qgraph.quantize(source, "litert", calibration=[x.numpy()])
        error = qgraph.run(low, x.numpy(), dequantize=True, layout="NCHW") - reference
        return float(10 * np.log10((reference**2).sum() / (error**2).sum()))

    assert decibels(qgraph.passes.equalize(graph)) > decibels(graph) + 15


DECLINED = {
    "relu6": (nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU6(), nn.Conv2d(3, 2, 1)), "through nn.relu6"),
    "a batch normalization": (
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)),
        "through nn.batch_norm",
    ),
    "another axis": (nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Linear(6, 2)), "dimension 1, nn.linear takes"),
    "the end": (nn.Conv2d(2, 3, 1), "read elsewhere"),
}


@pytest.mark.parametrize("name", DECLINED)
def test_it_says_why_a_layer_is_no_pair(name: str) -> None:
    model, why = DECLINED[name]
    graph = qgraph.trace(model.eval(), torch.randn(2, 2, 5, 6))
    log = Log()
    with logging_to(log):
        assert qgraph.passes.equalize(graph) == graph
    assert any(why in reason for _, _, reason in log.declined())


def test_a_channel_of_zeros_stays_and_a_shared_weight_too() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    with torch.no_grad():
        model[0].weight[1] = 0
    x = torch.randn(2, 2, 5, 6)
    graph = qgraph.trace(model.eval(), x)
    made = qgraph.passes.equalize(graph)
    np.testing.assert_allclose(qgraph.run(made, x.numpy()), qgraph.run(graph, x.numpy()), rtol=0, atol=1e-5)
    assert made.find("nn.conv")[0].operand(2).data[1] == graph.find("nn.conv")[0].operand(2).data[1]

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(torch.relu(self.conv(x)))

    twice = qgraph.trace(Twice().eval(), torch.randn(2, 3, 5, 6))
    assert qgraph.passes.equalize(twice) == twice
