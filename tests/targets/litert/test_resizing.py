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


class Resized(torch.nn.Module):
    """An image, or a volume, of another size."""

    def __init__(self, **words: Any) -> None:
        super().__init__()
        self.words = words

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, **self.words)


OTHERS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "cubic": ((4, 3, 8, 6), {"size": (13, 9), "mode": "bicubic"}),
    "cubic, aligned": ((4, 3, 8, 6), {"size": (5, 9), "mode": "bicubic", "align_corners": True}),
    "cubic, by steps": ((4, 3, 8, 6), {"scale_factor": 1.3, "mode": "bicubic"}),
    "linear, by steps": ((4, 3, 8, 6), {"scale_factor": 1.3, "mode": "bilinear"}),
    "a series, by steps": ((4, 3, 9), {"scale_factor": 1.3, "mode": "linear"}),
    "nearest, by steps": ((4, 3, 8, 6), {"scale_factor": 1.3, "mode": "nearest"}),
    "antialiased": ((4, 3, 8, 6), {"size": (3, 9), "mode": "bilinear", "antialias": True}),
    "cubic, antialiased": ((4, 3, 8, 6), {"size": (3, 2), "mode": "bicubic", "antialias": True}),
    "a volume": ((4, 3, 4, 5, 6), {"size": (7, 3, 9), "mode": "trilinear"}),
    "a volume, aligned": ((4, 3, 4, 5, 6), {"scale_factor": 2, "mode": "trilinear", "align_corners": True}),
    "a volume, nearest": ((4, 3, 4, 5, 6), {"size": (7, 3, 6), "mode": "nearest"}),
    "a volume, by steps": ((4, 3, 4, 5, 6), {"scale_factor": 1.3, "mode": "trilinear"}),
}


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
@pytest.mark.parametrize("name", OTHERS)
def test_what_no_op_resizes_is_a_product_or_two_resizes(name: str, target: str) -> None:
    shape, words = OTHERS[name]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    graph = qgraph.trace(Resized(**words), torch.from_numpy(x))
    fallback = "float" if target == "onnxruntime" else None
    lowered = qgraph.quantize(graph, target, calibration=[x], fallback=fallback)
    assert qgraph.verify(lowered, inputs=x, layout="NCHW").bit_exact
    made = np.asarray(qgraph.run(lowered, x, dequantize=True, layout="NCHW"))
    wanted = Resized(**words)(torch.from_numpy(x)).numpy()
    steps = 1 if words["mode"] == "nearest" else 3 * (len(shape) - 2)  # a rounding for each product, and of its weights
    assert np.abs(made - wanted).max() < steps * np.ptp(x) / 255


@pytest.mark.parametrize("case", [bilinear, nearest])
def test_random_cases(litert: Families, case) -> None:
    for cases in groups(CASES, case, 71):
        cases.check(litert)
