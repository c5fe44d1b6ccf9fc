"""Learned rounding, and what methods in a row go by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.ops.quant import unquantized
from qgraph.ptq import adaround, correct_biases, gptq
from qgraph.ptq.adaround import SHIFT, STRETCH, _regularized
from tests.ptq.test_ptq import correlated, decibels, network, prepared


def test_of_all_roundings_up_and_down_adaround_takes_one_of_the_best() -> None:
    """Rows of eight weights, all 256 ways; the error is that of the float model's results."""
    x, places = correlated(64, 8), []
    for seed in range(12):
        torch.manual_seed(seed)
        graph = prepared(nn.Linear(8, 1, bias=False), x, bits=3)
        (before,), (after,) = graph.find("nn.linear"), adaround(graph, x).find("nn.linear")
        w, scale = unquantized(before.operand(1)).data[0], before.operand(1).producer.operand(1).data[0]

        def error(codes: np.ndarray, w: np.ndarray = w, scale: float = scale) -> float:
            return float((((codes * scale - w) @ x.T) ** 2).sum())

        down = np.floor(w / scale)
        all_ways = sorted(error(np.clip(down + up, -3, 3)) for up in itertools.product((0, 1), repeat=8))
        found = np.rint(unquantized(after.operand(1)).data[0] / scale)
        assert np.isin(found - down, (0, 1)).all()
        assert error(found) <= error(np.clip(np.rint(w / scale), -3, 3))
        places.append(np.searchsorted(all_ways, error(found) * (1 - 1e-5)))
    assert np.median(places) <= 5


def test_inputs_that_do_not_hang_together_are_rounded_to_the_nearest_by_adaround_too() -> None:
    x = np.concatenate([np.eye(5), -np.eye(5)]).astype(np.float32)
    graph = prepared(nn.Linear(5, 3), x)
    (before,), (after,) = graph.find("nn.linear"), adaround(graph, x).find("nn.linear")
    scale = before.operand(1).producer.operand(1).data[:, None]
    codes = np.rint(unquantized(before.operand(1)).data / scale)
    np.testing.assert_array_equal(np.rint(unquantized(after.operand(1)).data / scale), np.clip(codes, -7, 7))


@pytest.mark.parametrize("bits", [3, 4])
def test_adaround_beats_the_nearest_and_gptq_on_convolutions(bits: int) -> None:
    model, x = network(), correlated(128, 3, 6, 6)
    graph = prepared(model, x, bits=bits)
    fresh = x[:64] + correlated(64, 3, 6, 6, seed=5) * np.float32(0.05)
    nearest, by_gptq, learned = (decibels(each, model, fresh) for each in (graph, gptq(graph, x), adaround(graph, x)))
    assert learned > nearest + 5
    assert learned > by_gptq + 1


def test_weights_on_all_targets_grids_ship_as_they_were_learned() -> None:
    model, x = network(), correlated(128, 3, 6, 6)
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    for target, options in (("litert", {"weight": "mse:power_of_two"}), ("tflm", {}), ("onnxruntime", {})):
        low = qgraph.quantize(graph, target, calibration=[x], ptq="adaround,bias-correction", observers=options)
        assert qgraph.verify(low, inputs=x, layout="NCHW").bit_exact


def test_methods_do_not_depend_on_how_the_examples_are_split() -> None:
    model, x = network(), correlated(96, 3, 6, 6)
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    methods = "batchnorm,adaround,bias-correction"
    made = [qgraph.quantize(graph, "litert", calibration=parts, ptq=methods) for parts in ([x], [x[:10], x[10:]])]
    assert made[0] == made[1]


def test_a_method_behind_others_goes_by_the_float_model_and_not_by_their_weights() -> None:
    """GPTQ lets the mean of a channel move; the bias makes up for that too."""
    model, x = network(), correlated(96, 3, 6, 6)
    graph = prepared(model, x, bits=3)
    rounded = gptq(graph, x)
    blind, seeing = correct_biases(rounded, x), correct_biases(rounded, x, graph)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    shift = [np.abs((qgraph.run(each, x) - wanted).mean(0)).max() for each in (rounded, blind, seeing)]
    assert shift[2] < min(shift[:2]) / 3
    assert decibels(seeing, model, x) > decibels(blind, model, x)


def test_the_regularizer_is_that_of_the_paper() -> None:
    """Equation 24: the slope of 0.01 * (1 - |2 h - 1|^beta), beta 20 after the warm start and 2 at the end."""
    h, step = np.linspace(0.01, 0.99, 9), 1e-6
    for progress, beta in ((0.2, 20), (0.6, 11), (1.0, 2)):
        values = [0.01 * (1 - np.abs(2 * each - 1) ** beta) for each in (h - step, h + step)]
        np.testing.assert_allclose(_regularized(h, progress), (values[1] - values[0]) / (2 * step), atol=1e-6)
    assert not _regularized(h, 0.1).any()
    assert (SHIFT, STRETCH) == (-0.1, 1.2)
