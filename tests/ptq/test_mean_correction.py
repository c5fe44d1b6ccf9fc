"""`mean-correction`: what rounded weights add to the mean of a layer's results is taken off its bias, for all layers at
once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.interpreter.execute import node_evaluator
from qgraph.ir import Array, Graph, Node
from qgraph.ops.quant import unquantized
from qgraph.passes.rules.layer_scaling import LAYERS
from qgraph.ptq import correct_means, with_ranges

LAYER = {
    "padded": (nn.Conv2d(4, 6, 3, padding=1), (4, 5, 7)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=2), (4, 9, 9)),
    "grouped": (nn.Conv2d(4, 6, (1, 3), groups=2), (4, 5, 6)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), (4, 5, 6)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (4, 5, 6)),
    "1d": (nn.Conv1d(4, 6, 3, padding=1), (4, 9)),
    "linear": (nn.Linear(8, 5), (8,)),
    "rows": (nn.Linear(8, 5), (3, 8)),
    "normalized": (nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU6()), (4, 5, 7)),
}


def layer_in(graph: Graph) -> Node:
    return next(node for node in graph.nodes if node.op in LAYERS)


def mean_result(graph: Graph, x: Array, *, weight_of: Graph | None = None) -> Array:
    """The mean of each channel of a layer's sums for floats x, with the weight of the graph, or that of another before
    it was rounded."""
    node, axis = layer_in(graph), 1 if x.ndim > 2 and "conv" in layer_in(graph).op else -1
    mark = node.operand(1).producer
    assert mark is not None
    (rounded,) = node_evaluator(graph)(mark, [each.data for each in mark.inputs])
    w = rounded if weight_of is None else unquantized(layer_in(weight_of).operand(1)).data
    node.attrs = {**node.attrs, "activation": "none", "clamp": None}
    (y,) = node_evaluator(graph)(node, [x, w, unquantized(node.operand(2)).data])
    return np.moveaxis(y, axis, -1).reshape(-1, y.shape[axis]).mean(0, dtype=np.float64)


@pytest.mark.parametrize("name", LAYER)
@pytest.mark.parametrize("bits", [3, 8])
def test_the_mean_of_each_channel_is_that_of_the_float_layer(name: str, bits: int) -> None:
    torch.manual_seed(0)
    layer, shape = LAYER[name]
    x = np.random.default_rng(0).normal(1, 1, size=(40, *shape)).astype(np.float32)
    target, options = ("litert", {"overrides": {"*": {"bits": bits}}}) if bits < 8 else ("onnxruntime", {})
    prepared = qgraph.prepare(qgraph.trace(layer.eval(), torch.from_numpy(x[:2])), target, **options)  # type: ignore[arg-type]
    graph = with_ranges(prepared, [x[:7], x[7:]])
    made, folded = correct_means(graph, x), qgraph.passes.fold_batchnorm(graph)
    wanted, before = mean_result(folded, x, weight_of=folded), mean_result(folded, x)
    size = float(np.abs(x).sum(axis=tuple(range(1, x.ndim))).max())
    assert np.abs(before - wanted).max() > 1e-4
    np.testing.assert_allclose(mean_result(made, x), wanted, atol=2.0**-24 * size)  # the sums' own rounding in float32


def test_a_layer_without_a_bias_stays_and_one_after_gptq_has_the_errors_of_the_weights_that_were_given() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(1, 1, size=(40, 8)).astype(np.float32)
    plain = qgraph.trace(nn.Linear(8, 5, bias=False), torch.from_numpy(x[:2]))
    graph = with_ranges(qgraph.prepare(plain, "onnxruntime"), [x])
    assert correct_means(graph, x) == graph
    traced = qgraph.trace(nn.Linear(8, 5), torch.from_numpy(x[:2]))
    graph = with_ranges(qgraph.prepare(traced, "litert", overrides={"*": {"bits": 3}}), [x])
    rounded = qgraph.ptq.gptq(graph, x)  # type: ignore[attr-defined]  # a package
    made = correct_means(rounded, x, graph)
    np.testing.assert_allclose(mean_result(made, x), mean_result(graph, x, weight_of=graph), atol=1e-5)


def test_a_bias_that_others_read_and_a_layer_whose_weight_or_bias_is_computed_stay() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(1, 1, size=(40, 8)).astype(np.float32)
    traced = qgraph.trace(nn.Linear(8, 5), torch.from_numpy(x[:2]))
    given = with_ranges(qgraph.prepare(traced, "litert", overrides={"*": {"bits": 3}}), [x])
    assert correct_means(given, x) != given
    for place in (1, 2):
        graph = given.clone()
        mark = layer_in(graph).operand(place).producer
        assert mark is not None
        graph.set_operands(mark, [graph.insert_before(mark).nn.tanh(mark.operand(0)), *mark.operands[1:]])
        assert correct_means(graph, x) == graph
    graph = given.clone()
    graph.set_outputs([*graph.outputs, unquantized(layer_in(graph).operand(2))])
    assert correct_means(graph, x) == graph


def test_means_over_many_layers_of_a_network_come_close_to_those_of_the_float_model() -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(8, 4)).eval()
    x = np.random.default_rng(0).normal(size=(128, 3, 12, 12)).astype(np.float32)
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    wanted = model(torch.from_numpy(x)).detach().numpy()

    def error(ptq: list[str]) -> float:
        made = qgraph.quantize(graph, "litert", calibration=[x], ptq=ptq, overrides={"*": {"bits": 4}})
        assert qgraph.verify(made, inputs=x, layout="NCHW").bit_exact
        return float(np.abs((qgraph.run(made, x, dequantize=True, layout="NCHW") - wanted).mean(0)).max())

    assert error(["mean-correction"]) < error([]) / 4
