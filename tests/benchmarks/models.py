"""The model of the benchmarks: a residual network of eight layers, that of MLPerf Tiny's image classification."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import qgraph
from tests.models import seeded

Channels = tuple[int, int, int]
"""Of the three stages."""


def conv_bn(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A padded convolution without bias, and its batch normalization."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


class Block(nn.Module):
    """relu(shortcut(x) + conv(relu(conv(x)))): [N, I, H, W] to [N, O, H/stride, W/stride]."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(channels_in, channels_out, 3, stride)
        self.second = conv_bn(channels_out, channels_out, 3)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = conv_bn(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.second(torch.relu(self.first(x)))
        return torch.relu(self.shortcut(x) + branch)


class ResNet8(nn.Module):
    """Logits [N, 10] of images [N, 3, 32, 32]: 12.5 million multiplications an image.

    Source: He et al. 2015, section 4.2, with one block a stage, as Banbury et al. 2021 (MLPerf Tiny) have it.
    """

    def __init__(self, channels: Channels = (16, 32, 64)) -> None:
        super().__init__()
        first, second, third = channels
        self.stem = conv_bn(3, first, 3)
        self.blocks = nn.Sequential(Block(first, first, 1), Block(first, second, 2), Block(second, third, 2))
        self.head = nn.Linear(third, 10)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(torch.relu(self.stem(x)))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def images(count: int) -> NDArray[np.float32]:
    """Random images [count, 3, 32, 32], normal."""
    return np.random.default_rng(0).normal(0, 1, (count, 3, 32, 32)).astype(np.float32)


def lowered(target: str, channels: Channels) -> qgraph.Graph:
    """The network with random weights, calibrated on random images, lowered to take and give integers."""
    graph = qgraph.trace(seeded(ResNet8(channels)), torch.from_numpy(images(2)))
    return qgraph.quantize(graph, target, calibration=[images(8)], io="integer")
