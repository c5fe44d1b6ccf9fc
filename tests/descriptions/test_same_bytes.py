"""Arithmetic of targets that are proven against their runtimes, written as descriptions: the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import qgraph

LITERT = """
[target]
name = "litert-arithmetic"
inherits = "cmsis-nn"

[ops.linear]                    # the reference kernel of FULLY_CONNECTED multiplies in float64
scale.form = "float64"
requantize.stages = [
    "add bias to s32 wrap",
    "convert float64",
    "multiply scale",
    "round half_away to s32 saturate",
    "add output_zero_point",
    "clamp low high",
]
"""


class Net(torch.nn.Module):
    """Each op whose grid is found in the same way everywhere; linear, as it ends what may differ by one byte."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.point = torch.nn.Conv2d(8, 8, 1)
        self.head = torch.nn.Linear(72, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.max_pool2d(torch.relu(self.stem(x)), 2)
        y = self.point(torch.nn.functional.relu6(self.depthwise(x)))
        y = torch.nn.functional.avg_pool2d((y + x) * y, 2)
        made: torch.Tensor = self.head(y.flatten(1))
        return made


@pytest.mark.parametrize("target", ["litert", "tflm", "tosa"])
@pytest.mark.parametrize("seed", range(3))
def test_a_description_gives_the_bytes_of_the_target_whose_arithmetic_it_says(
    target: str, seed: int, tmp_path: Path
) -> None:
    (tmp_path / "litert-arithmetic.toml").write_text(LITERT)
    described = {"litert": str(tmp_path / "litert-arithmetic.toml"), "tflm": "cmsis-nn", "tosa": "tosa-rescale"}
    torch.manual_seed(seed)
    images = np.random.default_rng(seed).normal(size=(64, 3, 24, 24)).astype(np.float32)
    graph = qgraph.trace(Net().eval(), torch.from_numpy(images[:2]))
    made = [
        qgraph.run(qgraph.quantize(graph, target=name, calibration=[images]), images, layout="NCHW")
        for name in (target, described[target])
    ]
    assert np.array_equal(*made)
    assert len(np.unique(made[0])) > 50
