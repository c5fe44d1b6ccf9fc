"""GPTQ against the method written out: one weight after the other, those left moved by the inverse of their H."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qgraph
from qgraph.interpreter.execute import node_evaluator
from qgraph.ir import Array, Graph, Node
from qgraph.ops.quant import unquantized
from qgraph.ptq import gptq
from qgraph.ptq.gptq import _rounded
from qgraph.ptq.weight_rounding import Rows
from tests.ptq.test_ptq import correlated, prepared


def rounded_by_hand(w: Array, scale: float, x: Array, limit: int) -> list[int]:
    """The codes of one row of weights [K] for inputs [M, K]."""
    hessian = x.astype(np.float64).T @ x.astype(np.float64)
    for k in range(len(w)):
        if not hessian[k, k]:
            hessian[k, k] = 1
    hessian += np.eye(len(w)) * 0.01 * np.diag(hessian).mean()
    left, codes = w.astype(np.float64).copy(), [0] * len(w)
    order = sorted(range(len(w)), key=lambda k: (-hessian[k, k], k))
    while order:
        inverse = np.linalg.inv(hessian[np.ix_(order, order)])
        k, others = order[0], order[1:]
        codes[k] = int(np.clip(np.rint(left[k] / scale), -limit, limit))
        error = (left[k] - codes[k] * scale) / inverse[0, 0]
        for place, other in enumerate(others, 1):
            left[other] -= error * inverse[0, place]
        order = others
    return codes


def grid(layer: Node) -> tuple[Array, Array]:
    """The weight of a layer, and a scale for each row."""
    fake_quant = layer.operand(1).producer
    w = fake_quant.operand(0).data
    return w, np.broadcast_to(fake_quant.operand(1).data, len(w))


def codes(layer: Node) -> Array:
    w, scale = grid(layer)
    return np.rint(w.reshape(len(w), -1) / scale[:, None]).astype(int)


def seen(graph: Graph, x: Array) -> Array:
    """The input as the first node of the graph rounds it."""
    first = graph.nodes[0]
    return node_evaluator(graph)(first, [x, *(each.data for each in first.inputs[1:])])[0]


def test_a_linear_layer_has_the_codes_of_the_method_written_out() -> None:
    x = correlated(40, 7)
    x[:, 3] = 0  # which nobody sees
    torch.manual_seed(3)
    graph = prepared(nn.Linear(7, 5), x, bits=3)
    (before,), (after,) = graph.find("nn.linear"), gptq(graph, x).find("nn.linear")
    w, scale = grid(before)
    wanted = [rounded_by_hand(row, float(step), seen(graph, x), 3) for row, step in zip(w, scale, strict=True)]
    assert codes(after).tolist() == wanted
    assert not np.array_equal(codes(before), wanted)


def test_inputs_that_are_always_zero_count_as_ones_and_nothing_else_is_rounded_by_them() -> None:
    """Small inputs, so that what is added to the diagonal for the others is large; and no input at all."""
    x = correlated(30, 6) * np.float32([1, 1, 0, 1, 0, 0]) * np.float32(0.05)
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(20):
        w = rng.normal(size=(1, 6))
        rows = Rows(w, np.full((1, 1), 0.4), -3, 3, x, x @ w.T.astype(np.float32))
        codes = _rounded(rows)
        assert codes[0].tolist() == rounded_by_hand(w[0], 0.4, x, 3)
        found += not np.array_equal(codes, rows.nearest())
    assert found > 3
    idle = Rows(w, np.full((1, 1), 0.4), -3, 3, x * 0, x[:, :1])
    assert np.array_equal(_rounded(idle), idle.nearest())


def test_a_linear_layer_over_sequences_takes_each_place_as_an_example() -> None:
    x = correlated(20, 3, 6)
    torch.manual_seed(3)
    graph = prepared(nn.Linear(6, 4), x, bits=3)
    (before,), (after,) = graph.find("nn.linear"), gptq(graph, x).find("nn.linear")
    w, scale = grid(before)
    rows = seen(graph, x).reshape(-1, 6)
    assert codes(after).tolist() == [
        rounded_by_hand(row, float(step), rows, 3) for row, step in zip(w, scale, strict=True)
    ]


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2}, {"groups": 4}])
def test_a_convolution_has_the_codes_of_the_method_on_its_windows(options: dict[str, int]) -> None:
    x = correlated(12, 4, 5, 6)
    torch.manual_seed(4)
    model = nn.Conv2d(4, 4, 3, **options)
    graph = prepared(model, x, bits=3)
    (before,), (after,) = graph.find("nn.conv"), gptq(graph, x).find("nn.conv")
    w, scale = grid(before)
    groups, window = options.get("groups", 1), {k: v for k, v in options.items() if k != "groups"}
    parts = np.split(seen(graph, x), groups, 1)
    columns = [
        F.unfold(torch.from_numpy(part), 3, **window).transpose(1, 2).reshape(-1, w[0].size).numpy() for part in parts
    ]
    wanted = [
        rounded_by_hand(row.reshape(-1), float(step), columns[number // (len(w) // groups)], 3)
        for number, (row, step) in enumerate(zip(w, scale, strict=True))
    ]
    assert codes(after).tolist() == wanted


def test_what_follows_is_rounded_for_the_inputs_that_rounded_layers_make() -> None:
    x = correlated(60, 6)
    torch.manual_seed(5)
    graph = prepared(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)), x, bits=3)
    made = gptq(graph, x)
    first, second = made.find("nn.linear")
    arrays: dict[object, Array] = {}
    qgraph.interpreter.execute(
        made, {"x": x} if made.inputs[0].name == "x" else {made.inputs[0].name: x}, arrays.__setitem__
    )
    w, scale = grid(graph.find("nn.linear")[1])
    given = arrays[second.operand(0)]
    wanted = [rounded_by_hand(row, float(step), given, 3) for row, step in zip(w, scale, strict=True)]
    assert codes(second).tolist() == wanted
    assert first.attrs["activation"] == "relu"


def _computed_weight(graph: Graph) -> None:
    """The weight is what an op makes."""
    fake_quant = graph.find("nn.linear")[0].operand(1).producer
    made = graph.insert_before(fake_quant).nn.relu(fake_quant.operand(0))
    graph.set_operands(fake_quant, [made, *fake_quant.operands[1:]])


def _two_readers(graph: Graph) -> None:
    """Two layers read one rounded weight."""
    layer = graph.find("nn.linear")[0]
    twin = graph.insert_after(layer).node(layer.op, layer.operands, layer.attrs).result
    graph.set_outputs([*graph.outputs, twin])


def _two_grids(graph: Graph) -> None:
    """Two fake-quantizations read one weight."""
    fake_quant = graph.find("nn.linear")[0].operand(1).producer
    twin = graph.insert_after(fake_quant).node(fake_quant.op, fake_quant.operands, fake_quant.attrs).result
    graph.set_outputs([*graph.outputs, twin])


def _columns_of_their_own(graph: Graph) -> None:
    """A scale for each column."""
    fake_quant = graph.find("nn.linear")[0].operand(1).producer
    fake_quant.attrs["axis"] = 1
    graph.set_data(fake_quant.operand(1), np.float32([0.3, 0.2, 0.1, 0.4, 0.5]))


@pytest.mark.parametrize("change", [_computed_weight, _two_readers, _two_grids, _columns_of_their_own])
def test_a_weight_that_is_not_a_constant_of_one_layer_with_rows_stays(change: Callable[[Graph], None]) -> None:
    x = correlated(32, 5)
    graph = prepared(nn.Linear(5, 5), x, bits=3)
    name = unquantized(graph.find("nn.linear")[0].operand(1)).name
    assert not np.array_equal(gptq(graph, x).constants[name].data, graph.constants[name].data)
    change(graph)
    assert np.array_equal(gptq(graph, x).constants[name].data, graph.constants[name].data)


def test_a_transposed_convolution_with_one_scale_stays_too() -> None:
    x = correlated(12, 2, 3, 3)
    graph = qgraph.trace(nn.ConvTranspose2d(2, 2, 2), torch.zeros(2, 2, 3, 3))
    graph = qgraph.calibrate(qgraph.prepare(graph, "litert", overrides={"*": {"bits": 3}}, weights="per-tensor"), [x])
    (layer,) = graph.find("nn.conv_transpose")
    assert layer.operand(1).producer.attrs["axis"] is None
    name = unquantized(layer.operand(1)).name
    assert np.array_equal(gptq(graph, x).constants[name].data, graph.constants[name].data)


def test_rows_whose_grid_need_not_be_larger_are_rounded_under_a_binding_rule_too() -> None:
    x = correlated(64, 8)
    torch.manual_seed(0)
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(nn.Linear(8, 6), torch.zeros(2, 8)), "onnxruntime"), [x])
    fake_quant = graph.find("nn.linear")[0].operand(1).producer
    quantizer = qgraph.quantizers.get(fake_quant.attrs["observer"])
    made = gptq(graph, x).find("nn.linear")[0]
    w, scale = grid(graph.find("nn.linear")[0])
    wanted = np.array([rounded_by_hand(row, float(s), seen(graph, x), 127) for row, s in zip(w, scale, strict=True)])
    rounded = (wanted * scale[:, None]).astype(np.float32)
    fits = quantizer.scale(rounded, 127) <= scale * (1 + 1e-6)
    assert fits.any()
    for row, fit in enumerate(fits):
        expected = rounded[row] if fit else w[row]
        np.testing.assert_array_equal(grid(made)[0][row], expected)
