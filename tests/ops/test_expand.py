"""Target shapes that ask for sizes: a constant expanded to a symbolic batch, a reshape with two symbolic sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph.errors import TypeMismatch
from qgraph.ir import Builder, Graph, TensorType, verify_graph
from qgraph.ops.nn.shape import target_shape
from qgraph.passes import set_batch, simplify


def graph_of(op: str, type: TensorType, shape: tuple[int, ...], constant: np.ndarray | None = None) -> Graph:
    graph = Graph("one")
    x = graph.add_input("x", type)
    operands = [x] if constant is None else [graph.add_constant(constant, "c"), x]
    graph.set_outputs(Builder(graph).node(op, operands, {"shape": shape}).results)
    verify_graph(graph)
    assert qgraph.parse(str(graph), constants=graph) == graph
    return graph


def test_a_constant_is_expanded_to_the_batch_of_another_value() -> None:
    c = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = graph_of("nn.expand", TensorType(("N", 5, "T")), (-2, -4, 2, -1), c)
    assert graph.outputs[0].type.shape == ("N", "T", 2, 3)
    x = np.full((4, 5, 7), np.nan, np.float32)
    module = qgraph.to_torch(graph)
    assert np.array_equal(module(torch.from_numpy(x)).detach(), np.broadcast_to(c, (4, 7, 2, 3)))
    x[:] = 0
    assert np.array_equal(qgraph.run(graph, x), np.broadcast_to(c, (4, 7, 2, 3)))


def test_two_symbolic_sizes_keep_their_places_in_a_reshape() -> None:
    before, after = ("N", "T", 6), ("N*2", "T", 3)
    shape = target_shape(before, after)
    assert shape == (-1, -3, 3)
    graph = graph_of("nn.reshape", TensorType(before), shape)
    assert graph.outputs[0].type.shape == after
    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    expected = x.reshape(8, 5, 3)
    assert np.array_equal(qgraph.run(graph, x), expected)
    assert np.array_equal(qgraph.to_torch(graph)(torch.from_numpy(x)), expected)


def test_merged_reshapes_ask_for_sizes_of_what_is_there() -> None:
    graph = Graph("two")
    x = graph.add_input("x", TensorType(("N", "T", 6)))
    build = Builder(graph)
    heads = build.nn.reshape(x, shape=(-2, -3, 2, 3))
    graph.set_outputs([build.nn.reshape(heads, shape=(-2, -1, 3))])
    merged = simplify(graph)
    assert [node.op for node in merged.nodes] == ["nn.reshape"]
    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    assert np.array_equal(qgraph.run(merged, x), qgraph.run(graph, x))


def test_a_fixed_batch_still_fits() -> None:
    graph = graph_of("nn.expand", TensorType(("N", 5)), (-2, 3), np.ones(3, np.float32))
    assert set_batch(graph, size="4").outputs[0].type.shape == (4, 3)


@pytest.mark.parametrize(
    ("op", "shape", "message"),
    [
        ("nn.reshape", (-1, -1), "at most one size may be -1"),
        ("nn.reshape", (-1, -4), "asks for a dimension"),
        ("nn.reshape", (-2, 4), "cannot be reshaped"),
        ("nn.expand", (3,), "cannot be expanded"),
        ("nn.expand", (-1, 4), "cannot be expanded"),
        ("nn.expand", (-1, -1, 3), "cannot be expanded"),
        ("nn.expand", (-2, -1, 3), "asks for a dimension"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(op: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(TypeMismatch, match=message):
        graph_of(op, TensorType(("N", 3)), shape)


def test_elements_along_an_expanded_table_are_gathered_and_those_along_the_expansion_are_not() -> None:
    graph = Graph("gathered")
    x = graph.add_input("x", TensorType((3, 3, 2)))
    i, j = (graph.add_input(name, TensorType((3, 3), "i64")) for name in "ij")
    build = Builder(graph)
    table = build.nn.expand(graph.add_constant(np.array([5.0, -1.0, 7.0], np.float32), "t"), x, shape=(3, 3))
    graph.set_outputs([build.nn.gather_elements(table, i, axis=1), build.nn.gather_elements(table, j, axis=0)])
    simple = simplify(graph)
    assert [node.op for node in simple.nodes] == ["nn.expand", "nn.gather", "nn.gather_elements"]
    one = Graph("one number")
    j = one.add_input("j", TensorType((3, 3), "i64"))
    build = Builder(one)
    table = build.nn.expand(one.add_constant(np.array([5.0], np.float32), "t"), j, shape=(3, 3))
    one.set_outputs([build.nn.gather_elements(table, j, axis=0)])
    assert [node.op for node in simplify(one).nodes] == ["nn.expand", "nn.gather_elements"]
    i, j = np.array([[2, 0, 1], [1, 1, 0], [0, 2, 2]]), np.array([[1, 2, 0], [0, 0, 2], [2, 1, 1]])
    for made in (graph, simple):
        along, across = qgraph.run(made, {"x": np.zeros((3, 3, 2), np.float32), "i": i, "j": j}).values()
        assert np.array_equal(along, np.array([5.0, -1.0, 7.0])[i])
        assert np.array_equal(across, [[5, -1, 7]] * 3)
