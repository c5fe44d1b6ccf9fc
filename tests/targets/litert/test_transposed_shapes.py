"""Transposed convolutions of a batch of any size: the file computes the shape of the result when it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.exporters import tflite
from tests.models import seeded

MODELS: dict[str, Callable[[], nn.Module]] = {
    "twice the size": lambda: nn.Sequential(nn.ConvTranspose2d(4, 8, 2, 2), nn.ReLU()),
    "cut off": lambda: nn.ConvTranspose2d(4, 6, 4, 2, padding=1),
    "with more at the end": lambda: nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), padding=1, output_padding=(1, 0)),
    "of one dimension, behind a convolution": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(4, 6, 3, 2), nn.ConvTranspose1d(6, 4, 3, 2)
    ),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
def test_the_shape_is_computed_in_the_file(model: str, target: str, tmp_path: Path) -> None:
    x = torch.randn(6, 4, 5, 6)
    graph = qgraph.trace(seeded(MODELS[model]()).eval(), x)
    lowered = qgraph.quantize(graph, target, calibration=[x.numpy()])
    assert lowered.outputs[0].type.shape[0] == "N"
    report = qgraph.verify(lowered)
    assert report.compared
    assert not report.mismatches
    path = tmp_path / "model.tflite"
    qgraph.export(lowered, path)
    assert "SHAPE" in [each.name for each in tflite.read(path.read_bytes()).subgraphs[0].operators]
    loaded = qgraph.load(path)
    assert loaded == lowered
    raised = qgraph.passes.raise_to_fake_quant(loaded)
    again = qgraph.lower(raised, target)
    for count in (1, 6):
        np.testing.assert_array_equal(*(np.asarray(qgraph.run(each, x.numpy()[:count])) for each in (again, loaded)))


def test_another_tools_file_of_an_open_batch_stays_open(tmp_path: Path) -> None:
    x = torch.randn(6, 4, 5, 6)
    lowered = qgraph.quantize(qgraph.trace(seeded(MODELS["cut off"]()).eval(), x), "litert", calibration=[x.numpy()])
    path, other = tmp_path / "model.tflite", tmp_path / "other.tflite"
    qgraph.export(lowered, path)
    model = tflite.read(path.read_bytes())
    model.metadata.clear()
    other.write_bytes(tflite.write(model))
    loaded = qgraph.load(other)
    assert isinstance(loaded.inputs[0].type.shape[0], str)
    assert not qgraph.verify(other).mismatches
    np.testing.assert_array_equal(*(np.asarray(qgraph.run(each, x.numpy())) for each in (loaded, lowered)))
