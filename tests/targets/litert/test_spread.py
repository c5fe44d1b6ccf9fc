"""Transposed convolutions that LiteRT has not, as convolutions of what has zeros between its elements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph import passes
from tests.targets.litert.families import HERE

torch.manual_seed(0)
SHAPES = {1: (4, 4, 9), 2: (4, 4, 6, 5), 3: (4, 4, 3, 4, 5)}
LAYERS: dict[str, nn.Module] = {
    "of volumes": nn.ConvTranspose3d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "of volumes, cut off": nn.ConvTranspose3d(4, 6, 2, stride=(1, 2, 3), padding=(0, 1, 1), bias=False),
    "of volumes, grouped": nn.ConvTranspose3d(4, 6, 2, stride=2, groups=2),
    "of each channel": nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, groups=4),
    "of each channel, multiplied": nn.ConvTranspose2d(4, 8, 3, stride=2, groups=4, bias=False),
    "grouped": nn.ConvTranspose2d(4, 6, 4, stride=(3, 1), padding=(2, 0), output_padding=(1, 0), groups=2),
    "dilated": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=2, dilation=2),
    "of series, dilated": nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, dilation=3),
    "of series, grouped": nn.ConvTranspose1d(4, 4, 3, stride=2, padding=1, groups=4),
    "with relu": nn.Sequential(nn.ConvTranspose3d(4, 6, 3, stride=2), nn.ReLU()),
}


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", LAYERS)
def test_a_transposed_convolution_is_one_of_spread_elements_rounded_once(name: str, target: str) -> None:
    layer = LAYERS[name].eval()
    weight = next(layer.parameters())
    x = np.random.default_rng(0).normal(size=SHAPES[weight.ndim - 2]).astype(np.float32)
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(layer, torch.from_numpy(x)), target), [x])
    lowered = qgraph.lower(graph, target)
    assert not lowered.find("litert.transpose_conv")
    assert qgraph.verify(lowered, inputs=x, layout="NCHW").bit_exact
    made = np.asarray(qgraph.run(lowered, x, dequantize=True, layout="NCHW"))
    predicted = np.asarray(qgraph.run(graph, x)).reshape(made.shape)
    step = lowered.outputs[0].type.q.scale[0]
    assert np.mean(np.abs(made - predicted) > step / 2) < 0.03  # of few elements
    assert np.abs(made - predicted).max() < 1.5 * step
    again = qgraph.lower(passes.raise_to_fake_quant(lowered), target)
    feed = qgraph.quantize_inputs(lowered, x, layout="NCHW")
    assert np.array_equal(qgraph.run(again, feed), qgraph.run(lowered, feed))


def test_channels_of_all_groups_share_the_scale_that_their_biases_need() -> None:
    layer = nn.ConvTranspose1d(4, 4, 2, stride=2, groups=4)
    with torch.no_grad():
        layer.weight.mul_(1e-6)
        layer.bias.copy_(torch.tensor([1.0, -3.0, 0.5, 2.0]))
    x = np.random.default_rng(0).normal(size=SHAPES[1]).astype(np.float32)
    lowered = qgraph.quantize(qgraph.trace(layer.eval(), torch.from_numpy(x)), "litert", calibration=[x])
    assert qgraph.verify(lowered, inputs=x, layout="NCHW").bit_exact
