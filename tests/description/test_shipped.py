"""Every description that is shipped: what is trained for it is what its graph computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph import targets
from qgraph.errors import LoweringError
from qgraph.ir import Array, Graph

REFUSED = {
    "esp-dl-s3": "the accumulator s20 holds",  # of the linear layer
    "ne16": "ne16 has no max_pool",
    "rk3588": "the source does not say what",
}
"""What keeps a chip from running the net."""


@pytest.fixture(scope="module")
def model() -> tuple[Graph, Array]:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
    net = torch.nn.Sequential(
        *layers, torch.nn.Conv2d(8, 8, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(128, 5)
    )
    images = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    return qgraph.trace(net, torch.from_numpy(images)), images


@pytest.mark.parametrize("name", targets.described_names())
def test_what_is_trained_for_a_shipped_chip_is_what_its_graph_computes(model: tuple[Graph, Array], name: str) -> None:
    graph, images = model
    if name in REFUSED:
        with pytest.raises(LoweringError, match=REFUSED[name]):
            qgraph.quantize(graph, target=name, calibration=[images])
        return
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target=name), mode="bit-true"), [images]).eval()
    lowered = qgraph.lower(qgraph.from_torch(module), target=name)
    made = qgraph.run(lowered, images, dequantize=True, layout="NCHW")
    assert np.array_equal(module(torch.from_numpy(images)).detach(), made)
    assert np.corrcoef(made.ravel(), qgraph.run(graph, images).ravel())[0, 1] > 0.5  # bits alone cost so much at most
