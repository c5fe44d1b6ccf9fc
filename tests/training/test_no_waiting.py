"""Training on a GPU waits for nothing that is computed there: neither steps nor CUDA graphs could bear it.

On the `meta` device tensors have no values, so whatever asks for one raises: `item`, `bool`, `tolist`, NumPy, a copy to
the CPU, a shape that depends on values.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qgraph
from qgraph import quantizers
from qgraph.training.observers import ActivationQuantizer, WeightQuantizer
from tests.models import seeded
from tests.training.small_graphs import Branches, images

ROUNDED = [name for name in quantizers.names() if "activation" in quantizers.get(name).uses]


class Encoder(nn.Module):
    """[N, 6, 8] to [N, 3], with a padding mask made of x."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x).mean(1))


def _trained_on_meta(net: nn.Module, x: torch.Tensor, target: str, **rules: str) -> None:
    graph = qgraph.prepare(qgraph.trace(net, x[:2]), target=target, **rules)
    module = qgraph.to_torch(qgraph.calibrate(graph, [x])).train()
    module(x)  # the first pass looks once whether there are scales
    module.to("meta")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        module(x.to("meta")).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_a_step_of_a_network_waits_for_nothing(target: str) -> None:
    _trained_on_meta(seeded(Branches()), images(0), target)


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_a_step_of_a_transformer_waits_for_nothing(target: str) -> None:
    _trained_on_meta(seeded(Encoder()), torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0)), target)


@pytest.mark.parametrize("name", quantizers.names())
@pytest.mark.parametrize("word", ["", ":ewgs", ":dsq", ":stochastic"])
def test_no_quantizer_waits(name: str, word: str) -> None:
    if name == "fixed" and word:
        pytest.skip("fixed parameters have no gradients of their own")
    x = torch.randn(2, 3, 4, 5, device="meta", requires_grad=True)
    if "activation" in quantizers.get(name).uses or not quantizers.get(name).uses:
        made = ActivationQuantizer(1, (-128, 127), None, name + word, symmetric=False, has_pole=True).to("meta")
        scale, zero_point = torch.ones(1, device="meta"), torch.zeros(1, dtype=torch.int32, device="meta")
        made._calibrated = True
        made(x, scale, zero_point, None, "half_even", True).sum().backward()
    if "weight" in quantizers.get(name).uses:
        weights = WeightQuantizer((-127, 127), 0, name + word).to("meta")
        scale, zero_point = torch.ones(2, device="meta"), torch.zeros(2, dtype=torch.int32, device="meta")
        weights(x, scale, zero_point, torch.zeros(2, device="meta"), torch.ones(1, device="meta")).sum().backward()
