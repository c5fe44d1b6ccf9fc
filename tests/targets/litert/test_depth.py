"""Convolutions and pools over three dimensions, by those over two, on every family."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph import passes
from qgraph.errors import LoweringError
from qgraph.ir import Graph
from tests.targets.litert.families import HERE

torch.manual_seed(0)
CLIPS = np.random.default_rng(0).normal(size=(4, 4, 6, 9, 8)).astype(np.float32)
CONVOLUTIONS: dict[str, nn.Module] = {
    "padded": nn.Conv3d(4, 6, 3, padding=1),
    "strided": nn.Conv3d(4, 6, (3, 2, 3), stride=(2, 1, 2), padding=(1, 0, 1)),
    "dilated": nn.Conv3d(4, 6, 3, dilation=(2, 1, 2)),
    "grouped": nn.Conv3d(4, 8, 3, groups=2, padding=(0, 1, 2)),
    "depthwise": nn.Conv3d(4, 4, 3, groups=4, padding=1),
    "multiplied": nn.Conv3d(4, 8, (2, 3, 3), groups=4, bias=False),
    "of one element": nn.Conv3d(4, 6, 1),
    "over the plane": nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)),
    "over depth": nn.Conv3d(4, 6, (3, 1, 1), stride=(2, 1, 1), padding=(2, 0, 0)),
    "with relu": nn.Sequential(nn.Conv3d(4, 6, 3, bias=False), nn.BatchNorm3d(6), nn.ReLU()),
}
POOLS: dict[str, nn.Module] = {
    "largest": nn.MaxPool3d(2),
    "largest, padded": nn.MaxPool3d(3, 2, 1),
    "largest, rounded up": nn.MaxPool3d(2, ceil_mode=True),
    "largest over depth": nn.MaxPool3d((2, 1, 1)),
    "largest over the plane": nn.MaxPool3d((1, 3, 2)),
    "mean": nn.AvgPool3d(2),
    "mean, padded": nn.AvgPool3d(3, 2, 1),
    "mean over depth": nn.AvgPool3d((2, 1, 1)),
    "mean of what is there": nn.AvgPool3d((1, 3, 3), (1, 1, 1), (0, 1, 1), count_include_pad=False),
    "mean of all": nn.AdaptiveAvgPool3d(1),
}
NETWORK = nn.Sequential(
    *(nn.Conv3d(4, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 8, 3, padding=1)),
    *(nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)),
)


def prepared(model: nn.Module, target: str, **words: str) -> Graph:
    graph = qgraph.trace(model.eval(), torch.from_numpy(CLIPS))
    return qgraph.calibrate(qgraph.prepare(graph, target, **words), [CLIPS])


def check(model: nn.Module, target: str, **words: str) -> Graph:
    lowered = qgraph.lower(prepared(model, target, **words), target)
    assert qgraph.verify(lowered, inputs=CLIPS, layout="NCHW").bit_exact
    again = qgraph.lower(passes.raise_to_fake_quant(lowered), target)
    feed = qgraph.quantize_inputs(lowered, CLIPS)
    assert np.array_equal(qgraph.run(again, feed), qgraph.run(lowered, feed))
    return lowered


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_over_three_dimensions_is_one_over_two_rounded_once(name: str, target: str) -> None:
    lowered = check(CONVOLUTIONS[name], target)
    assert len(lowered.find("litert.conv_2d")) == 1
    made = np.asarray(qgraph.run(lowered, CLIPS, dequantize=True))
    predicted = np.asarray(qgraph.run(prepared(CONVOLUTIONS[name], target), CLIPS)).reshape(made.shape)
    step = lowered.outputs[0].type.q.scale[0]
    assert np.mean(np.abs(made - predicted) > step / 2) < 0.01
    assert np.abs(made - predicted).max() < 1.5 * step


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", POOLS)
def test_a_pool_over_three_dimensions_is_exact(name: str, target: str) -> None:
    lowered = check(POOLS[name], target)
    if "largest" in name:
        made = np.asarray(qgraph.run(lowered, CLIPS, dequantize=True))
        predicted = np.asarray(qgraph.run(prepared(POOLS[name], target), CLIPS))
        assert np.array_equal(made, predicted.reshape(made.shape))


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("activations", ["i8", "i16"])
def test_between_layers_nothing_is_transposed(activations: str, target: str) -> None:
    lowered = check(NETWORK, target, activations=activations)
    assert len(lowered.find("litert.transpose")) == 1  # of the input
    pairs = [
        node for node in lowered.find("litert.reshape") if node.operand(0).producer in lowered.find("litert.reshape")
    ]
    assert not pairs


def test_layers_over_three_dimensions_stay_in_float_where_they_are_told_to() -> None:
    model = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.MaxPool3d(2), nn.Flatten())
    graph = prepared(model, "litert", fallback="float")
    assert qgraph.verify(qgraph.lower(graph, "litert"), inputs=CLIPS).bit_exact


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.MaxPool3d(2, dilation=2), r"MAX_POOL_2D has no dilation=\[2, 2, 2\]"),
        (nn.AvgPool3d((1, 4, 4), ceil_mode=True), "no ceil_mode"),
        (nn.AvgPool3d((1, 4, 4), 1, (0, 2, 2), count_include_pad=False), "that do not count are not LiteRT's SAME"),
    ],
)
def test_what_has_no_form_is_refused_at_prepare(model: nn.Module, message: str) -> None:
    with pytest.raises(LoweringError, match=message):
        prepared(model, "litert")


@pytest.mark.parametrize("layer", [nn.AvgPool3d(2), nn.AdaptiveAvgPool3d((1, 2, 2))])
@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
def test_a_mean_over_depth_and_plane_has_the_grid_of_what_it_makes_of_depth(layer: nn.Module, target: str) -> None:
    """Both on the grid of the operand reach 26 and 30 dB."""
    x = torch.randn(32, 2, 4, 6, 4, generator=torch.Generator().manual_seed(0))
    low = qgraph.quantize(qgraph.trace(nn.Sequential(layer).eval(), x), target, calibration=[x.numpy()])
    assert qgraph.verify(low, inputs=x.numpy(), layout="NCHW").bit_exact
    given = torch.from_numpy(qgraph.run(low, x.numpy(), dequantize=True, layout="NCHW"))
    assert 10 * torch.log10((layer(x) ** 2).sum() / ((given - layer(x)) ** 2).sum()) > 32
