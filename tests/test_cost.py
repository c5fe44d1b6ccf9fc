"""Multiply-accumulates, bytes and peaks, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph.interpreter.cost import cost
from tests.models import Mixed, seeded


def test_a_float_graph_and_its_lowered_forms_have_the_same_products() -> None:
    graph = qgraph.trace(seeded(Mixed()), torch.zeros(2, 3, 16, 16))
    x = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    expected = cost(graph).macs
    assert expected > 0
    for target in ("litert", "onnxruntime"):
        assert cost(qgraph.quantize(graph, target, calibration=[x])).macs == expected


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 8, 8), 4 * 4 * 8 * 27),
        (torch.nn.Conv2d(6, 6, 3, groups=6), (1, 6, 5, 5), 9 * 6 * 9),
        (torch.nn.Conv1d(4, 2, 3), (1, 4, 9), 7 * 2 * 12),
        (torch.nn.Linear(10, 7), (1, 10), 70),
        (torch.nn.ConvTranspose2d(4, 3, 2, stride=2), (1, 4, 3, 3), 9 * 4 * 3 * 4),
    ],
)
def test_products_of_a_layer(layer: torch.nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert cost(qgraph.trace(layer.eval(), torch.zeros(2, *shape[1:]))).macs == macs


def test_the_peak_is_what_lives_at_one_time() -> None:
    graph = qgraph.parse("""graph @g level=float (%x: f32[N,4]) {
  %1: f32[N,4] = nn.relu(%x)
  %2: f32[N,8] = nn.concat(%1, %1) {axis=1}
  %3: f32[N,8] = nn.relu(%2)
  %4: f32[N,4] = nn.relu(%x)
  return %3, %4
}""")
    assert cost(graph).peak_bytes == 4 * (4 + 8 + 8)  # %x waits for %4 while %2 becomes %3
