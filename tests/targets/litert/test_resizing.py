"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR against every family, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import qgraph
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, groups, integers, params

CASES = 200
FLAGS = [(False, False), (True, False), (False, True)]


def resize(cases: Cases, name: str) -> None:
    rng, quant = cases.rng, params(cases.rng)
    x = cases.input(integers(rng, tuple(int(n) for n in rng.integers(1, [3, 12, 12, 5]))), quant)
    size = tuple(int(n) for n in rng.integers(1, 24, 2))
    align, half = FLAGS[rng.integers(3)]
    op = getattr(cases.build.litert, name)
    cases.output(op(x, size=size, align_corners=align, half_pixel_centers=half, element=("i8", quant)))


def bilinear(cases: Cases) -> None:
    resize(cases, "resize_bilinear")


def nearest(cases: Cases) -> None:
    resize(cases, "resize_nearest_neighbor")


@pytest.mark.parametrize("words", [{"mode": "linear"}, {"mode": "linear", "align_corners": True}, {"mode": "nearest"}])
@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
def test_a_series_is_resized_as_an_image_of_one_row(target: str, words: dict[str, Any]) -> None:
    class Longer(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(x, size=13, **words)

    x = torch.randn(6, 4, 7)
    lowered = qgraph.quantize(qgraph.trace(Longer(), x), target, calibration=[x.numpy()])
    report = qgraph.verify(lowered)
    assert report.compared
    assert not report.mismatches
    made = np.asarray(qgraph.run(lowered, x.numpy(), dequantize=True, layout="NCHW"))
    assert np.abs(made - Longer()(x).numpy()).max() < 0.04


@pytest.mark.parametrize("case", [bilinear, nearest])
def test_random_cases(litert: Families, case) -> None:
    for cases in groups(CASES, case, 71):
        cases.check(litert)
