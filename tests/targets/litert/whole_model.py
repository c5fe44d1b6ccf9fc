"""A small CNN with every op that LiteRT's lowering knows, as an integer graph."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

import qgraph
from qgraph.ir import Graph

SIZE = 16


class SmallCNN(nn.Module):
    """conv-bn-relu with stride 2, residual add, depthwise-bn-relu6, concat, pad, pools, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv, self.conv_bn = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.depthwise_bn = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(16, 12, 1)
        self.hidden, self.classes = nn.Linear(12 * 2 * 2, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem_bn(self.stem(x)))
        y = torch.relu(self.conv_bn(self.conv(x)) + x)
        z = nn.functional.relu6(self.depthwise_bn(self.depthwise(y)))
        y = nn.functional.pad(torch.cat([y, z], 1), (1, 1, 1, 1))
        y = nn.functional.max_pool2d(y, 3, 2, 1)
        y = nn.functional.avg_pool2d(torch.relu(self.pointwise(y)), 2)
        return self.classes(torch.relu(self.hidden(torch.flatten(y, 1))))


def images(count: int, seed: int) -> np.ndarray:
    """Random NCHW images."""
    return np.random.default_rng(seed).normal(size=(count, 3, SIZE, SIZE)).astype(np.float32)


@functools.cache
def small_cnn(target: str, seed: int = 0, **options: str) -> Graph:
    """The graph of a network with random weights and statistics, fake-quantized for the target and calibrated."""
    torch.manual_seed(seed)
    model = SmallCNN()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -1, 1)
            nn.init.uniform_(module.bias, -1, 1)
    graph = qgraph.trace(model.eval(), (torch.from_numpy(images(2, 1)),))
    return qgraph.calibrate(qgraph.prepare(graph, target, **options), [images(40, 2)])
