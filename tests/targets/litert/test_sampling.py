"""Images that are sampled at computed places, on every family: the same integers, and as close as 8 bits are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph import passes
from qgraph.errors import LoweringError
from qgraph.ir import Graph
from tests.targets.litert.families import HERE

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 3, 9, 14)).astype(np.float32)
GRIDS = RNG.uniform(-1.3, 1.3, (4, 5, 6, 2)).astype(np.float32)
GRIDS[0, 0] = [[-1, -1], [1, 1], [0, 0], [-1, 1], [9, -9], [1, -1]]  # corners, the centre, far outside


class Sampled(nn.Module):
    """An image at given places."""

    def __init__(self, mode: str, padding: str, aligned: bool) -> None:
        super().__init__()
        self.words: dict[str, Any] = {"mode": mode, "padding_mode": padding, "align_corners": aligned}

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, **self.words)


class Transformed(nn.Module):
    """A spatial transformer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.where = nn.Sequential(nn.Flatten(), nn.Linear(504, 6))
        with torch.no_grad():
            self.where[1].weight.mul_(0.2)
            self.where[1].bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
        self.head = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        grid = F.affine_grid(self.where(x).view(-1, 2, 3), [x.shape[0], 4, 8, 10], align_corners=False)
        return self.head(F.grid_sample(x, grid, align_corners=False))


def prepared(model: nn.Module, target: str, *examples: np.ndarray, **words: str) -> Graph:
    graph = qgraph.trace(model.eval(), tuple(map(torch.from_numpy, examples)))
    return qgraph.calibrate(qgraph.prepare(graph, target, **words), [examples if len(examples) > 1 else examples[0]])


def decibels(wanted: np.ndarray, made: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(wanted**2) / np.mean((wanted - made) ** 2)))


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_an_image_is_sampled_within_a_step_of_its_grid(mode: str, padding: str, target: str) -> None:
    for aligned in (False, True):
        model = Sampled(mode, padding, aligned)
        graph = prepared(model, target, IMAGES, GRIDS)
        lowered = qgraph.lower(graph, target)
        assert qgraph.verify(lowered, inputs={"x": IMAGES, "grid": GRIDS}, layout="NCHW").bit_exact
        made = np.asarray(qgraph.run(lowered, IMAGES, GRIDS, dequantize=True, layout="NCHW"))
        expected = np.asarray(qgraph.run(graph, IMAGES, GRIDS))
        off = np.abs(made - expected) / lowered.outputs[0].type.q.scale[0]
        if mode == "bilinear":  # half of 2**-11 pixels along each of two axes are 1/8 of a step at most, of 256
            assert off.max() < 1.01
            assert np.mean(off > 0.5) < 1 / 8
        else:  # the centre and corners may lie between two pixels, of which torch takes the even one
            assert np.mean(off > 0.5) <= 5 / 120


@pytest.mark.parametrize("activations", ["i8", "i16"])
@pytest.mark.parametrize("target", HERE)
def test_a_spatial_transformer_computes_its_places_in_16_bits(target: str, activations: str) -> None:
    model = Transformed()
    graph = prepared(model, target, IMAGES, activations=activations)
    lowered = qgraph.lower(graph, target)
    assert [node.result.type.dtype for node in lowered.find("litert.batch_matmul")] == ["i16"]
    assert {node.result.type.dtype for node in lowered.find("litert.conv_2d")} == {activations}
    assert not lowered.find("litert.transpose")
    assert qgraph.verify(lowered, inputs=IMAGES, layout="NCHW").bit_exact
    made = np.asarray(qgraph.run(lowered, IMAGES, dequantize=True, layout="NCHW"))
    with torch.no_grad():
        wanted = model(torch.from_numpy(IMAGES)).numpy()
    assert decibels(wanted, made) > 28


def test_one_pixel_is_sampled_as_it_is() -> None:
    pixel = IMAGES[:, :, :1, :1].copy()
    for padding in ("zeros", "border"):
        lowered = qgraph.lower(prepared(Sampled("bilinear", padding, True), "litert", pixel, GRIDS), "litert")
        assert qgraph.verify(lowered, inputs={"x": pixel, "grid": GRIDS}, layout="NCHW").bit_exact
        codes = np.asarray(qgraph.run(lowered, pixel, GRIDS, layout="NCHW"))
        assert np.array_equal(codes, np.broadcast_to(codes[:, :, :1, :1], codes.shape))


def test_a_reflected_image_is_refused_at_prepare() -> None:
    with pytest.raises(LoweringError, match="reflected has no integer form"):
        prepared(Sampled("bilinear", "reflection", True), "litert", IMAGES, GRIDS)


def test_places_that_are_permuted_are_no_images() -> None:
    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow, self.stem = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.grid_sample(self.stem(x), torch.tanh(self.flow(x)).permute(0, 2, 3, 1), align_corners=True))

    graph = qgraph.trace(Flow().eval(), torch.from_numpy(IMAGES))
    moved = passes.convert_layout(graph, to="NHWC", io="convert")
    assert [node.op for node in moved.nodes].count("nn.transpose") == 0
    wanted = np.moveaxis(np.asarray(qgraph.run(graph, IMAGES)), 1, -1)
    assert np.array_equal(np.asarray(qgraph.run(moved, np.moveaxis(IMAGES, 1, -1))), wanted)
    lowered = qgraph.quantize(graph, "litert", calibration=[IMAGES])
    assert qgraph.verify(lowered, inputs=IMAGES, layout="NCHW").bit_exact
