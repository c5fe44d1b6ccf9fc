"""What a method of quantization after training is given of each layer, and of the examples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.errors import InputError
from qgraph.interpreter import execute
from qgraph.ir import Array, Graph, Value
from qgraph.ops.quant import unquantized
from qgraph.passes import strip_fake_quant
from qgraph.ptq import check_methods, correct_biases, improved
from qgraph.ptq.side_by_side import Layer, improve_layers
from qgraph.ptq.weight_rounding import Rows, round_weights
from tests.ptq.test_ptq import correlated, prepared


def values(graph: Graph, x: Array) -> dict[Value, Array]:
    """What each value is for the examples, in float64."""
    arrays: dict[Value, Array] = {graph.inputs[0]: x.astype(np.float64)}
    execute(graph, {graph.inputs[0].name: x}, lambda value, array: arrays.update({value: array.astype(np.float64)}))
    return arrays


def test_each_bias_takes_away_what_its_layer_lacks_behind_layers_that_are_corrected_already() -> None:
    """Before the activation; what the layer behind reads is what corrected layers and their activations make."""
    x = correlated(60, 6)
    torch.manual_seed(2)
    graph = prepared(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU()), x, bits=3)
    made, floats = correct_biases(graph, x), strip_fake_quant(graph)
    rounded, real = values(made, x), values(floats, x)
    for layer, before, wanted in zip(*(each.find("nn.linear") for each in (made, graph, floats)), strict=True):
        old, new = (unquantized(node.operand(2)).data for node in (before, layer))
        sums = real[wanted.operand(0)] @ wanted.operand(1).data.T + old
        step = before.operand(2).producer.operand(1).data * before.operand(2).producer.operand(2).data
        got = rounded[layer.operand(0)] @ rounded[layer.operand(1)].T + np.rint(old / step) * step
        np.testing.assert_allclose(new - old, (sums - got).mean(0), rtol=1e-4, atol=1e-6)
        assert np.abs(new - old).max() > 1e-3
        assert layer.attrs == before.attrs


def test_a_bias_that_is_no_parameter_of_one_layer_stays() -> None:
    x = correlated(32, 5)
    graph = prepared(nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5)), x, bits=3)
    _, layer = graph.find("nn.linear")
    twin = graph.insert_after(layer).node(layer.op, layer.operands, layer.attrs).result
    name = unquantized(layer.operand(2)).name
    assert not np.array_equal(correct_biases(graph, x).constants[name].data, graph.constants[name].data)
    fake_quant = layer.operand(2).producer
    other = graph.insert_after(fake_quant).node(fake_quant.op, fake_quant.operands, fake_quant.attrs).result
    graph.set_outputs([*graph.outputs, twin, other])
    assert np.array_equal(correct_biases(graph, x).constants[name].data, graph.constants[name].data)


def test_a_graph_of_which_one_range_is_missing_is_refused() -> None:
    x = correlated(32, 5)
    graph = prepared(nn.Linear(5, 5), x)
    correct_biases(graph, x)
    graph.set_data(graph.constants["input_scale"], np.float32([np.nan]))
    with pytest.raises(InputError, match="has no ranges yet"):
        correct_biases(graph, x)


def test_parameters_that_ops_make_of_others_are_what_the_ops_make() -> None:
    """A bias that is not rounded, and a weight that is the absolute of a parameter."""
    x = correlated(32, 5)
    graph = prepared(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)), x, bits=3)
    first, second = graph.find("nn.linear")
    bias = unquantized(first.operand(2))
    made = graph.insert_before(first).nn.relu(bias)
    graph.set_operands(first, [*first.operands[:2], made])
    fixed = correct_biases(graph, x)
    assert np.array_equal(fixed.constants[bias.name].data, bias.data)
    name = unquantized(second.operand(2)).name
    assert not np.array_equal(fixed.constants[name].data, graph.constants[name].data)


def test_only_layers_with_rounded_weights_are_improved_and_each_sees_itself_without_its_activation() -> None:
    x = correlated(32, 4)
    graph = prepared(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), x, bits=3)
    first, second = graph.find("nn.linear")
    graph.set_operands(second, [second.operand(0), unquantized(second.operand(1)), *second.operands[2:]])
    seen: list[Layer] = []
    improve_layers(graph, x, seen.append)
    assert [layer.node.attrs for layer in seen] == [first.attrs]
    assert first.attrs["activation"] == "relu"
    assert seen[0].results(seen[0].real).min() < 0


def test_a_layer_is_rounded_for_what_its_rows_give_in_the_float_model_without_the_bias() -> None:
    """A convolution of two groups whose bias is large, and that is read behind a relu."""
    x, given = correlated(6, 4, 3, 3), []
    torch.manual_seed(0)
    graph = prepared(nn.Sequential(nn.Conv2d(4, 6, 2, groups=2), nn.ReLU()), x, bits=3)
    (layer,) = graph.find("nn.conv")
    graph.set_data(unquantized(layer.operand(2)), np.float32([5, -5, 3, 2, 9, 8]))

    def nearest(rows: Rows) -> Array:
        given.append(rows)
        return rows.nearest()

    round_weights(graph, x, nearest, None)
    w = unquantized(layer.operand(1)).data
    sums = nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), groups=2).numpy()
    assert [rows.weight.shape for rows in given] == [(3, 8), (3, 8)]
    for group, rows in enumerate(given):
        wanted = np.moveaxis(sums[:, 3 * group : 3 * group + 3], 1, -1).reshape(-1, 3)
        np.testing.assert_allclose(rows.wanted, wanted, rtol=1e-4, atol=1e-5)


# ---- examples


def test_at_most_512_examples_serve_and_no_batch_is_asked_for_after_them() -> None:
    x = correlated(600, 4)
    x[512:] *= -3
    graph = prepared(nn.Linear(4, 4), x, bits=3)

    def batches(sizes: list[int]) -> Iterator[Array]:
        start = 0
        for size in sizes:
            yield x[start : start + size]
            start += size
            assert start < 512, "a batch too many"

    wanted = correct_biases(graph, x[:512])
    for sizes in ([600], [256, 256], [511, 1], [1, 511], [500, 100]):
        assert improved(graph, batches(sizes), check_methods("bias-correction")) == wanted


@pytest.mark.parametrize("batch", ["array", "tuple", "list", "mapping"])
def test_batches_are_what_calibration_takes(batch: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.a(x) - self.b(y)

    x, y = correlated(40, 4), correlated(40, 4, seed=1)
    model = nn.Linear(4, 3) if batch == "array" else Two()
    example = [torch.zeros(2, 4)] * (1 if batch == "array" else 2)
    graph = qgraph.prepare(qgraph.trace(model, tuple(example)), "litert", overrides={"*": {"bits": 3}})
    names = [value.name for value in graph.inputs]
    given = {"array": x, "tuple": (x, y), "list": [x, y], "mapping": dict(zip(names, (x, y), strict=False))}[batch]
    graph = qgraph.calibrate(graph, [given])
    made = improved(graph, [given], check_methods("bias-correction"))
    arrays = dict(zip(names, (x, y), strict=False))
    assert made == correct_biases(graph, arrays)
    assert made != graph


def test_methods_go_before_preparing_or_after_calibration_as_they_say() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    with torch.no_grad():
        model[0].weight[0] *= 200
    x = correlated(20, 2, 3, 3)
    graph = qgraph.trace(model, torch.zeros(2, 2, 3, 3))
    plain, equalized, corrected = (
        qgraph.quantize(graph, "litert", calibration=[x], ptq=ptq) for ptq in ([], "equalize", "bias-correction")
    )
    scales = [low.find("litert.conv_2d")[1].operand(0).type.q.scale[0] for low in (plain, equalized, corrected)]
    assert scales[1] < scales[0] / 10
    assert scales[2] == scales[0]
    assert not np.array_equal(*(low.find("litert.conv_2d")[1].operand(2).data for low in (plain, corrected)))
