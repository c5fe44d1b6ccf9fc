"""A small network, and faults that are planted into its quantization."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import qgraph
from qgraph.ir import Array, Graph, Node
from qgraph.ops.quant import grid_of, unquantized
from qgraph.passes import fold_batchnorm

TARGETS = ("litert", "onnxruntime")


class Network(nn.Module):
    """Three convolutions, one around which a branch goes, and a linear layer: every one has a name."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.middle, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (self.middle(x) + x).relu()
        logits: Tensor = self.head(self.last(x).relu().mean((2, 3)))
        return logits


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Network().eval()


def examples(count: int = 48, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 1, (count, 2, 9, 9)).astype(np.float32)


def calibrated(model: nn.Module, x: Array, target: str, **options: object) -> Graph:
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    return fold_batchnorm(qgraph.calibrate(qgraph.prepare(graph, target, **options), [x]))  # type: ignore[arg-type]


def layer(graph: Graph, path: str) -> Node:
    """The layer of that module path."""
    (found,) = (node for node in graph.find("nn.conv|nn.linear") if node.origins[0].path == path)
    return found


def scale_result(graph: Graph, path: str, factor: float) -> None:
    """Give the grid of a layer's result another step."""
    mark = layer(graph, path).result.users[0]
    assert mark.op == "quant.fake_quant"
    graph.set_data(mark.operand(1), mark.operand(1).data * np.float32(factor))


def scale_weight(graph: Graph, path: str, channel: int, factor: float) -> None:
    """Give one channel of a layer's weight another step."""
    mark = grid_of(layer(graph, path).operand(1))
    assert mark is not None
    scale = mark.operand(1).data.copy()
    scale[channel] *= factor
    graph.set_data(mark.operand(1), scale)


def outlying(channel: int, factor: float) -> nn.Module:
    """Two convolutions; one channel of the first one is larger than the others, and nothing reads it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3))
    with torch.no_grad():
        model[0].weight[channel] *= factor  # type: ignore[index]
        model[1].weight[:, channel] = 0  # type: ignore[index]
    return model.eval()


def weight_of(graph: Graph, path: str) -> Array:
    return unquantized(layer(graph, path).operand(1)).data
