"""Descriptions and small models for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import qgraph
from qgraph.ir import Array, Graph

BASIC = """
[target]
name = "basic"

[scale]
bits = 15
rounding = "half_even"
shift = [0, 40]
too_small = "zero"

[requantize]
stages = ["add bias", "multiply multiplier", "shift right shift half_up", "add output_zero_point", "clamp low high"]

[ops.conv]
[ops.depthwise]
[ops.linear]
[ops.rescale]
[ops.mul]
[ops.max_pool]
[ops.table]
[ops.average_pool]
[ops.mean]

[ops.add]
factors.input = "input_scale / output_scale"
factors.second = "second_scale / output_scale"
requantize.second = ["subtract second_zero_point", "multiply second_multiplier", "shift right second_shift half_up"]
requantize.stages = [
    "subtract input_zero_point", "multiply input_multiplier", "shift right input_shift half_up",
    "add second", "add output_zero_point", "clamp low high",
]
"""


def written(folder: Path, text: str, name: str = "chip.toml") -> str:
    """The path of a file that has a text."""
    path = folder / name
    path.write_text(text)
    return str(path)


class SmallNet(torch.nn.Module):
    """Convolutions, a depthwise one, an add, pools, a table, joins, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = torch.nn.Conv2d(8, 8, 1, stride=2)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + torch.nn.functional.relu6(self.depthwise(x))
        x = torch.sigmoid(self.point(torch.nn.functional.max_pool2d(x, 2)))
        x = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = torch.cat([x, torch.nn.functional.pad(x, (1, 0, 0, 1))[:, :, 1:, :-1] * 0.5], 1)[:, 4:12]
        return self.head(x.mean((2, 3)))


def small_net(seed: int = 0) -> tuple[Graph, Array]:
    """The net as a graph, and images for it."""
    torch.manual_seed(seed)
    images = np.random.default_rng(seed).normal(size=(16, 3, 12, 12)).astype(np.float32)
    return qgraph.trace(SmallNet(), torch.from_numpy(images)), images
