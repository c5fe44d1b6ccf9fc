"""Graphs with batch normalization, small enough to check by hand."""

from __future__ import annotations

import numpy as np
import torch

from qgraph.frontends import trace
from qgraph.ir import Graph
from qgraph.passes import fuse_conv_relu, insert_fake_quant

GAMMA = (0.0, -0.7, 1.3, -0.0, 2.0, 1e-30)
"""Factors of batch normalization among which every hard case is: zero, negative, nearly nothing."""


class Branches(torch.nn.Module):
    """[N, 3, 8, 8] to [N, 4]: every kind of layer with batch normalization, an add, a concat, pools, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.BatchNorm2d(6), torch.nn.ReLU())
        self.grouped = torch.nn.Conv2d(6, 6, 3, padding=1, groups=3, bias=False)
        self.norm = torch.nn.BatchNorm2d(6)
        self.hidden = torch.nn.Linear(12, 6)
        self.hidden_norm = torch.nn.BatchNorm1d(6)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.stem(x)
        b = self.norm(self.grouped(a)) + a
        both = torch.cat([torch.nn.functional.max_pool2d(a, 2), torch.nn.functional.avg_pool2d(b, 2)], 1)
        hidden = torch.nn.functional.relu(self.hidden_norm(self.hidden(both.mean((2, 3)))))
        return self.head(self.drop(hidden))


def trained_branches(seed: int) -> Branches:
    """A model with statistics, and hard factors in every batch normalization."""
    torch.manual_seed(seed)
    model = Branches()
    for _ in range(3):
        model(images(seed))
    with torch.no_grad():
        for norm in (model.stem[1], model.norm, model.hidden_norm):
            norm.weight.copy_(torch.tensor(GAMMA)[torch.randperm(6)])
            norm.bias.normal_()
    return model.eval()


def images(seed: int, count: int = 16) -> torch.Tensor:
    """Random images [count, 3, 8, 8]."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32))


def fake_quantized(model: torch.nn.Module, target: str = "litert", batchnorm: str = "live") -> Graph:
    """The model's graph, fused and fake-quantized, not calibrated."""
    return insert_fake_quant(fuse_conv_relu(trace(model, (images(0),))), target=target, batchnorm=batchnorm)
