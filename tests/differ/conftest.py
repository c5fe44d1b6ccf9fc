"""The demo's model at every level, and inputs for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.examples.residual_cnn import ResidualCnn
from qgraph.ir import Array, Graph
from tests.models import Mixed, seeded

TARGETS = ("litert", "onnxruntime")


class Branches(nn.Module):
    """A convolution whose result is read with and without relu, so that the relu stays a node of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.split = nn.Conv2d(8, 8, 3, padding=1)
        self.join = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.split(self.stem(x))
        joined = torch.relu(self.join(torch.cat([y, torch.relu(y)], 1)))
        logits: Tensor = self.head(joined.mean((2, 3)))
        return logits


MODELS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "demo": (ResidualCnn, (4, 1, 28, 28)),
    "mixed": (Mixed, (4, 3, 16, 16)),
    "branches": (Branches, (4, 3, 8, 8)),
}


def inputs_of(name: str) -> Array:
    return np.random.default_rng(0).normal(size=MODELS[name][1]).astype(np.float32)


@pytest.fixture(scope="session")
def levels() -> dict[tuple[str, str], Graph]:
    """Graphs by model and level: "float", and for each target "litert-fq" and "litert"."""
    graphs = {}
    for name, (model, _) in MODELS.items():
        x = inputs_of(name)
        traced = graphs[name, "float"] = qgraph.trace(seeded(model()), (torch.from_numpy(x),))
        for target in TARGETS:
            calibrated = qgraph.calibrate(qgraph.prepare(traced, target=target), [x])
            graphs[name, f"{target}-fq"] = calibrated
            graphs[name, target] = qgraph.lower(calibrated, target=target)
    return graphs
