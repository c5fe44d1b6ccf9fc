"""The values of a diff: measures, layouts found from shapes and flow, own and inherited errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import qgraph
from qgraph.differ.layouts import Arrangement, candidates, preferred
from qgraph.differ.measures import compare_arrays, lsb_histogram
from qgraph.ir import Builder, Graph, TensorType, parse
from tests.differ.conftest import inputs_of
from tests.differ.variants import reordered, strip
from tests.passes.random_graphs import random_graphs, random_input

Levels = dict[tuple[str, str], Graph]


def test_measures_of_a_known_difference() -> None:
    found = compare_arrays(np.array([3.0, 4.0]), np.array([3.0, 3.5]))
    assert found.sqnr_db == pytest.approx(10 * np.log10(25 / 0.25))
    assert found.max_error == 0.5
    assert found.cosine == pytest.approx((9 + 14) / (5 * np.sqrt(9 + 3.5**2)))
    assert compare_arrays(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])).sqnr_db is None
    assert compare_arrays(np.zeros(2), np.ones(2)).sqnr_db == -np.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_on_one_side_alone_differs_infinitely(wrong: float) -> None:
    found = compare_arrays(np.array([1.0, 2.0]), np.array([1.0, wrong]))
    assert (found.sqnr_db, found.max_error, found.cosine) == (-np.inf, np.inf, None)
    assert compare_arrays(np.array([1.0, wrong]), np.array([1.0, wrong])).max_error == 0.0


def test_graphs_that_overflow_are_compared() -> None:
    graph = parse("""graph @g level=float (%x: f32[N,2]) {
  %1: f32[N,2] = nn.mul(%x, %x)
  %2: f32[N,2] = nn.sub(%1, %1)
  return %2
}""")
    copy = graph.clone()
    copy.nodes[1].replace_with(copy.insert_before(copy.nodes[1]).relu(copy.nodes[0].result))
    diff = qgraph.diff(graph, copy, inputs=np.full((1, 2), 1e30, np.float32))  # inf - inf is NaN
    numbers = diff.changes[-1].numbers
    assert numbers is not None
    assert numbers.max_error == np.inf
    assert qgraph.diff(graph, graph.clone(), inputs=np.full((1, 2), 1e30, np.float32)).identical


def test_the_histogram_counts_steps() -> None:
    a = np.zeros(6)
    b = np.array([0.0, 0.1, -0.1, 0.2, 5.0, -5.0])
    counts = lsb_histogram(a, b, 0.1)
    assert len(counts) == 17
    assert (counts[8], counts[9], counts[7], counts[10], counts[16], counts[0]) == (1, 1, 1, 1, 1, 1)


@pytest.mark.parametrize(("first", "second"), [((2, 3, 4, 5), (2, 4, 5, 3)), ((2, 5, 7), (2, 7, 5)), ((2, 6), (2, 6))])
def test_one_layout_fits_and_goes_both_ways(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    (layout,) = candidates(first, second)
    x = np.arange(np.prod(first)).reshape(first)
    assert layout.to_second(x).shape == second
    assert np.array_equal(layout.to_first(layout.to_second(x)), x)


def test_equal_sizes_leave_the_layout_open_until_the_flow_decides() -> None:
    fitting = candidates((2, 4, 4, 4), (2, 4, 4, 4))
    assert len(fitting) == 3
    assert preferred(fitting, None, {"conv"}) is None
    source = Arrangement((2, 3, 8, 8), (2, 8, 8, 3), (2, 8, 8, 3), (0, 3, 1, 2))
    chosen = preferred(fitting, source, {"conv"})
    assert chosen is not None
    assert chosen.order == (0, 3, 1, 2)
    assert preferred(fitting, source, {"transpose"}) is None


def test_a_flattened_value_is_compared_in_one_order() -> None:
    source = Arrangement((2, 3, 4, 5), (2, 4, 5, 3), (2, 4, 5, 3), (0, 3, 1, 2))
    fitting = candidates((2, 60), (2, 60), source)
    flat = preferred(fitting, source, {"reshape"})
    assert flat is not None
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    assert np.array_equal(flat.to_first(x.transpose(0, 2, 3, 1).reshape(2, 60)), x.reshape(2, 60))
    mixed = preferred(fitting, source, {"linear"})
    assert mixed is not None
    assert mixed.is_identity


def test_as_many_channels_as_rows_and_columns() -> None:
    """Shapes say nothing here: the layout follows from the values."""
    graph = Graph("square")
    x = graph.add_input("x", TensorType(("N", 4, 4, 4)))
    build = Builder(graph)
    weight = build.constant(np.random.default_rng(1).normal(size=(4, 4, 1, 1)).astype(np.float32), "w")
    y = build.nn.conv(x, weight, stride=(1, 1), pads=(0,) * 4, dilation=(1, 1))
    graph.set_outputs([build.nn.relu(y)])
    data = np.random.default_rng(0).normal(size=(3, 4, 4, 4)).astype(np.float32)
    lowered = qgraph.quantize(graph, target="litert", calibration=[data])
    for copy in (lowered, strip(lowered)):
        diff = qgraph.diff(graph, copy, inputs=data)
        numbers = [group.numbers for group in diff.groups if group.numbers is not None]
        assert numbers
        assert all(found.sqnr_db is None or found.sqnr_db > 25 for found in numbers)


@settings(max_examples=50, deadline=None)
@given(random_graphs())
def test_equal_graphs_have_equal_values(graph: Graph) -> None:
    diff = qgraph.diff(graph, strip(reordered(graph, 1)), inputs=random_input(graph))
    assert not diff.ranking()
    assert diff.first_divergence is None
    assert all(group.numbers is not None and not group.numbers.differs for group in diff.groups if group.numbers)


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@pytest.mark.parametrize("model", ["demo", "mixed", "branches"])
def test_lowered_values_lie_close_in_the_same_layout(levels: Levels, model: str, target: str) -> None:
    x = inputs_of(model)
    for level in ("float", f"{target}-fq"):
        diff = qgraph.diff(levels[model, level], strip(levels[model, target]), inputs=x)
        for group in diff.groups:
            assert group.numbers is not None, group
            assert group.numbers.own_known
            assert group.numbers.sqnr_db is None or group.numbers.sqnr_db > 20, str(group)
            assert group.numbers.cosine is None or group.numbers.cosine > 0.99
            assert sum(group.numbers.lsb_histogram) in (0, len(x) * _size(group.after or group.before))


def _size(nodes: tuple[qgraph.Node, ...]) -> int:
    return int(np.prod([int(size) for size in nodes[-1].result.type.shape[1:]]))


def test_the_error_of_a_node_is_its_own_and_further_down_inherited() -> None:
    text = """graph @g level=float (%x: f32[N,2]) {
  const @w: f32[2,2] = [1.0, 2.0, 3.0, 4.0], @v: f32[2,2] = [1.0, 0.0, 0.0, 1.0]
  %a: f32[N,2] = nn.linear(%x, @w)
  %b: f32[N,2] = nn.relu(%a)
  %c: f32[N,2] = nn.linear(%b, @v)
  return %c
}"""
    a, b = parse(text), parse(text.replace("4.0]", "4.5]"))
    x = np.array([[1.0, 2.0], [0.5, 0.25]], np.float32)
    diff = qgraph.diff(a, b, inputs=x)
    numbers = [group.numbers for group in diff.groups]
    assert [found is not None and found.differs for found in numbers] == [True, True, True]
    assert [found is not None and found.own_differs for found in numbers] == [True, False, False]
    assert numbers[0] is not None
    assert numbers[0].own_max_error == 1.0
    assert diff.first_divergence is diff.groups[0]
    assert diff.ranking() == [diff.groups[0]]
    assert str(diff).count("its own: none, all inherited") == 2


@pytest.mark.parametrize("other", ["float", "onnxruntime", "litert-fq"])
def test_inputs_are_as_the_first_graph_takes_them(levels: Levels, other: str) -> None:
    lowered, second = levels["branches", "litert"], levels["branches", other]
    x = inputs_of("branches")
    integers = next(iter(qgraph.quantize_inputs(lowered, x, layout="NCHW").values()))
    assert integers.dtype == np.int8
    for inputs in (x, integers, {"x": integers}):
        diff = qgraph.diff(lowered, second, inputs=inputs)
        found = [group.numbers.sqnr_db for group in diff.groups if group.numbers is not None]
        assert found
        assert all(value is None or value > 20 for value in found)
