"""Forms that targets' rows take: a window over one dimension as one over two, a softmax over the last dimension."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import qgraph
from qgraph.ir import Builder, Dim, Graph, TensorType, Value, verify_graph
from qgraph.passes.legalize import FORMS, carriers, in_forms
from qgraph.passes.rewriter import rewrite
from qgraph.targets import get

Make = Callable[[Builder, Value], Value]


def numbers(build: Builder, *shape: int) -> Value:
    return build.constant(np.random.default_rng(0).integers(-4, 5, shape).astype(np.float32), "w")


def fake_quantized(build: Builder, w: Value, axis: int | None) -> Value:
    count = 1 if axis is None else int(w.type.shape[axis])
    scale = build.constant(np.float32([2.0, 1.0, 0.5, 0.25][:count]), "scale")
    return build.quant.fake_quant(
        w, scale, build.constant(np.zeros(count, np.int32), "zero"), axis=axis, symmetric=True
    )


WINDOWS: dict[str, Make] = {
    "conv": lambda b, x: b.conv(x, numbers(b, 4, 3, 2), numbers(b, 4), stride=(2,), pads=(1, 3), dilation=(2,)),
    "grouped conv": lambda b, x: b.conv(x, numbers(b, 6, 1, 3), stride=(1,), pads=(0, 1), groups=3, activation="relu"),
    "conv_transpose": lambda b, x: b.conv_transpose(
        x, numbers(b, 3, 2, 3), numbers(b, 2), stride=(2,), pads=(0, 1), dilation=(2,), output_padding=(1,)
    ),
    "max_pool": lambda b, x: b.max_pool(x, kernel=(3,), stride=(2,), pads=(1, 0), dilation=(2,), ceil_mode=True),
    "avg_pool": lambda b, x: b.avg_pool(x, kernel=(4,), stride=(3,), pads=(2, 1), count_include_pad=False),
    "a weight behind its fake-quant": lambda b, x: b.conv(x, fake_quantized(b, numbers(b, 4, 3, 2), 0), pads=(0, 1)),
    "and by its inputs": lambda b, x: b.conv_transpose(x, fake_quantized(b, numbers(b, 3, 4, 2), 1)),
    "a resize to the next": lambda b, x: b.resize(x, size=(20,), mode="nearest"),
    "a resize by given steps": lambda b, x: b.resize(x, size=(18,), mode="nearest", steps=(0.4,)),
    "and as a whole": lambda b, x: b.conv(x, fake_quantized(b, numbers(b, 4, 3, 2), None)),
}


def graph_of(make: Make, *shape: Dim) -> tuple[Graph, Value]:
    graph = Graph("g", "fake_quant")
    value = make(Builder(graph), graph.add_input("x", TensorType(("N", *shape))))
    graph.set_outputs([value])
    return graph, value


@pytest.mark.parametrize("name", WINDOWS)
def test_a_window_over_one_dimension_is_one_over_two(name: str) -> None:
    graph, _ = graph_of(WINDOWS[name], 3, 9)
    wide = graph.clone()
    assert rewrite(wide, [FORMS["one-dimensional"]]) == 1
    wide.drop_unused_constants()
    verify_graph(wide)
    ranks = {node.op: node.result.type.rank for node in wide.nodes}
    del ranks["nn.reshape"]
    assert set(ranks.values()) == {4}
    x = np.random.default_rng(1).integers(-9, 10, (5, 3, 9)).astype(np.float32)
    assert np.array_equal(qgraph.run(wide, x), qgraph.run(graph, x))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda b, x: b.conv(x, numbers(b, 4, 3, 2, 1)), (3, 9, 9)),
        (lambda b, x: b.max_pool(x, kernel=(2,), stride=(1,)), ("T", 9)),
        (lambda b, x: b.conv(x, b.relu(numbers(b, 4, 3, 2))), (3, 9)),
        (lambda b, x: b.conv(x, fake_quantized(b, b.relu(numbers(b, 4, 3, 2)), 0)), (3, 9)),
    ],
    ids=["two dimensions", "any number of channels", "a computed weight", "a computed weight behind its fake-quant"],
)
def test_what_has_no_other_form_stays_as_it_is(make: Make, shape: tuple[Dim, ...]) -> None:
    graph, _ = graph_of(make, *shape)
    before = str(graph)
    assert rewrite(graph, [FORMS["one-dimensional"]]) == 0
    assert str(graph) == before


@pytest.mark.parametrize(
    ("rank", "axis", "moves"), [(4, 2, True), (5, 2, True), (5, 3, True), (4, 1, False), (4, 3, False)]
)
def test_a_softmax_inside_is_one_over_the_last_dimension_between_transposes(rank: int, axis: int, moves: bool) -> None:
    sizes = (2, 3, 4, 5)[: rank - 1]
    graph, _ = graph_of(lambda b, x: b.softmax(x, axis=axis), *sizes)
    other = graph.clone()
    assert rewrite(other, [FORMS["softmax-over-last"]]) == int(moves)
    assert [node.op for node in other.nodes] == (
        ["nn.transpose", "nn.softmax", "nn.transpose"] if moves else ["nn.softmax"]
    )
    assert other.find("nn.softmax")[0].attrs["axis"] == (rank - 1 if moves else axis)
    x = np.random.default_rng(1).normal(size=(3, *sizes)).astype(np.float32)
    np.testing.assert_allclose(qgraph.run(other, x), qgraph.run(graph, x), rtol=1e-6)


def test_every_new_node_stands_for_the_one_that_it_was_made_of() -> None:
    graph, value = graph_of(lambda b, x: b.relu(b.conv(x, numbers(b, 4, 3, 2))), 3, 9)
    conv, relu = graph.nodes
    stands_for = in_forms(graph, get("litert"))
    assert [stands_for.get(node) for node in graph.nodes] == [conv, conv, conv, None]
    assert value.producer is relu


def test_an_op_carries_what_its_rows_say_or_those_on_floats_or_of_a_norm_its_layers() -> None:
    target = get("onnxruntime")
    assert carriers("nn.conv", target) is carriers("nn.batch_norm", target) is target.lowerings["nn.conv"]
    assert "nn.prod" not in target.lowerings
    assert carriers("nn.prod", target) is target.float_lowerings["nn.prod"]
    assert list(carriers("nn.unheard_of", target)) == []
