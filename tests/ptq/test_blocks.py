"""Blocks found in graphs, and what BRECQ and QDrop make of their weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.ops.quant import unquantized
from qgraph.passes import fold_batchnorm
from qgraph.ptq import brecq, qdrop
from qgraph.ptq.blocks import blocks
from qgraph.training.soft_rounding import SoftRounding
from tests.benchmarks.models import ResNet8
from tests.models import seeded
from tests.ptq.test_ptq import correlated, decibels, prepared


def test_a_residual_connection_makes_its_layers_one_block() -> None:
    x = correlated(4, 3, 8, 8)
    graph = fold_batchnorm(prepared(seeded(ResNet8((4, 4, 8))), x))
    assert [[layer.op for layer in block.layers] for block in blocks(graph)] == [
        ["nn.conv"],
        ["nn.conv"] * 2,
        ["nn.conv"] * 3,
        ["nn.conv"] * 3,
        ["nn.linear"],
    ]


def test_an_attention_with_its_shortcut_is_a_block() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    x = correlated(8, 5, 8)
    found = [len(block.layers) for block in blocks(fold_batchnorm(prepared(model, x, bits=8)))]
    assert sum(found) >= 4
    assert len(found) == 2  # attention, and the feed-forward part


def test_of_a_single_weight_in_a_block_the_better_neighbour_is_found() -> None:
    """y = relu(w x) with w in the middle between codes: against both roundings of all four weights."""
    x = correlated(64, 4)
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.ReLU())
    graph = prepared(model, x, bits=3)
    (layer,) = graph.find("nn.linear")
    mark = layer.operand(1).producer
    w, scale = unquantized(layer.operand(1)).data[0], mark.operand(1).data[0]
    wanted = np.maximum(x @ w, 0)

    def error(codes: np.ndarray) -> float:
        return float(np.square(np.maximum(x @ (np.clip(codes, -3, 3) * scale), 0) - wanted).sum())

    errors = sorted(error(np.floor(w / scale) + np.array(up)) for up in itertools.product((0, 1), repeat=4))
    (made,) = brecq(graph, x, steps=300).find("nn.linear")
    found = np.rint(unquantized(made.operand(1)).data[0] / scale)
    assert error(found) <= error(np.rint(w / scale))
    assert error(found) <= errors[3]  # of sixteen


def test_what_is_learned_begins_where_the_weights_are() -> None:
    w = torch.tensor([[0.3, -0.7, 1.2]])
    soft = SoftRounding(w, torch.full_like(w, 0.5), -3, 3)
    torch.testing.assert_close(soft(w), w)
    soft.way = "nearest"
    assert soft(w).tolist() == [[0.5, -0.5, 1.0]]


@pytest.mark.parametrize("method", [brecq, qdrop])
def test_blocks_gain_over_the_nearest_and_lower_as_they_are(method: object) -> None:
    model, x = seeded(ResNet8((4, 4, 8))), correlated(64, 3, 8, 8)
    graph = prepared(model, x)
    made = method(graph, x, steps=100)  # type: ignore[operator]
    assert decibels(made, model, x) > decibels(graph, model, x) + 1
    again = method(graph, x, steps=100)  # type: ignore[operator]
    assert str(made) == str(again)  # a fixed seed
    lowered = qgraph.lower(made, target="litert")
    assert lowered.level == "integer"
