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


def changed(text: str, *pairs: tuple[str, str]) -> str:
    """A text with parts exchanged, each of which it has."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


SCALE = '[scale]\nbits = 15\nrounding = "half_even"\nshift = [0, 40]\ntoo_small = "zero"\n'
FLOAT = changed(
    BASIC,
    (SCALE, '[scale]\nform = "float32"\n'),
    ('"multiply multiplier", "shift right shift half_up"', '"convert float32", "multiply scale", "round half_even"'),
    *(
        (
            f'"multiply {name}_multiplier", "shift right {name}_shift half_up"',
            f'"convert float32", "multiply {name}_scale", "round half_even", "saturate s16"',
        )
        for name in ("input", "second")
    ),
)
"""Factors in float32."""
AVERAGE = 'grid = "input"\nrequantize.stages = ["divide count half_up", "add output_zero_point", "clamp low high"]\n'
SHIFTS = changed(
    BASIC,
    (
        SCALE,
        '[activation]\nscale = "power_of_two"\nzero_point = false\n'
        '[weight]\nscale = "power_of_two"\nper_channel = false\n[scale]\nform = "shift"\n',
    ),
    (
        '"multiply multiplier", "shift right shift half_up", "add output_zero_point"',
        '"shift right shift half_even negative left"',
    ),
    *(
        (
            f'"multiply {name}_multiplier", "shift right {name}_shift half_up"',
            f'"shift right {name}_shift half_even negative left"',
        )
        for name in ("input", "second")
    ),
    ("[ops.average_pool]\n", f"[ops.average_pool]\n{AVERAGE}"),
    ("[ops.mean]\n", f"[ops.mean]\n{AVERAGE}"),
)
"""Scales that are powers of two, and no zero points."""


def random_net(seed: int) -> tuple[Graph, Array]:
    """A few layers and pools of random sizes, with a residual sum."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    channels, layers = int(rng.integers(1, 4)), []
    inputs = channels
    for _ in range(int(rng.integers(1, 4))):
        outputs, kernel = int(rng.integers(1, 9)), int(rng.integers(1, 4))
        stride, pad = int(rng.integers(1, 3)), int(rng.integers(0, kernel))
        layers.append(torch.nn.Conv2d(channels, outputs, kernel, stride, pad))
        layers.append([torch.nn.ReLU(), torch.nn.ReLU6(), torch.nn.Identity()][int(rng.integers(3))])
        if rng.random() < 0.5:
            layers.append(Residual(torch.nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)))
        channels = outputs
    pool = torch.nn.AvgPool2d(2, 1) if rng.random() < 0.5 else torch.nn.MaxPool2d(2, 1)
    net = torch.nn.Sequential(*layers, pool, torch.nn.Flatten(), torch.nn.LazyLinear(3))
    size = (int(rng.integers(13, 18)), int(rng.integers(13, 18)))
    images = rng.normal(size=(8, inputs, *size)).astype(np.float32)
    net(torch.from_numpy(images))
    return qgraph.trace(net, torch.from_numpy(images)), images


class Residual(torch.nn.Module):
    """x + f(x)."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)
