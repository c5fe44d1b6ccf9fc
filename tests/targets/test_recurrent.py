"""Recurrent layers from torch to integers: exact on every runtime, and near the float model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph


class Forecaster(nn.Module):
    """A recurrent layer of twelve steps (more than TFLM joins at once) and a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body, self.head = getattr(nn, kind)(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        steps: Tensor = self.body(x)[0]
        return torch.cat([self.head(steps[:, -1]), steps.mean(1)], 1)


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_are_exact_and_near_the_float_model(kind: str, target: str) -> None:
    torch.manual_seed(0)
    model, x = Forecaster(kind).eval(), torch.randn(64, 12, 3)
    graph = qgraph.trace(model, x, dynamic_batch=False)
    fallback = "float" if target == "onnxruntime" else None
    low = qgraph.quantize(graph, target=target, calibration=[x.numpy()], fallback=fallback)
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact
    wanted, got = model(x).detach().numpy(), qgraph.run(low, x.numpy(), dequantize=True)
    assert 10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum()) > 30


class Turned(nn.Module):
    """Results with the examples behind the steps, in one dimension with them, and first."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.transpose(0, 1) * 2, x.transpose(0, 1).reshape(-1, 3) * 0.5, x * 3


@pytest.mark.parametrize("model", [nn.GRU(3, 4, batch_first=True), Turned()], ids=["GRU", "turned"])
def test_results_whose_examples_are_not_first_are_compared_where_the_runtime_takes_one_by_one(model: nn.Module) -> None:
    x = torch.randn(16, 5, 3)
    low = qgraph.quantize(qgraph.trace(model, x), target="tflm", calibration=[x.numpy()])
    assert any(value.type.shape[0] != "N" for value in low.outputs)
    report = qgraph.verify(low, samples=8, intermediate=True)
    assert report.bit_exact
    one = qgraph.run(low, x[:1].numpy())
    assert report.compared == 13 * sum(array.size for array in one.values()), "all of every example's results"
    assert not any(node.mismatches for node in report.nodes)
