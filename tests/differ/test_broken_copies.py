"""A copy that is broken in a few places is pinned to exactly those, by what the nodes are and by their values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import qgraph
from qgraph.differ import Change, GraphDiff
from qgraph.differ.kinds import kind_of_op
from qgraph.ir import Graph, Node, parse
from tests.differ.conftest import inputs_of
from tests.differ.variants import dropped, permuted, rescaled, strip

Levels = dict[tuple[str, str], Graph]


def broken(graph: Graph) -> tuple[Graph, list[int]]:
    """A copy with one scale 1 % larger, one weight permuted and one relu dropped; positions of these nodes before."""
    copy = graph.clone()
    nodes = list(copy.nodes)
    convs = [node for node in nodes if kind_of_op(node.op) == "conv"]
    relu = next(node for node in nodes if kind_of_op(node.op) == "activation")
    touched = [convs[0], relu, convs[-1]]
    positions = [nodes.index(node) for node in touched]
    rescaled(convs[0])
    permuted(convs[-1], 0)
    dropped(relu)
    return copy, positions


def positions_of(changes: Iterator[Change] | tuple[Change, ...] | list[Change], graph: Graph) -> list[int]:
    nodes = list(graph.nodes)
    return sorted(nodes.index(node) for change in changes for node in change.before)


@pytest.fixture(params=["litert", "litert stripped", "onnxruntime", "onnxruntime stripped"])
def case(request: pytest.FixtureRequest, levels: Levels) -> tuple[Graph, Graph, list[int]]:
    target, _, bare = request.param.partition(" ")
    graph = levels["branches", target]
    copy, positions = broken(graph)
    return graph, strip(copy) if bare else copy, positions


def test_the_structure_names_exactly_the_broken_nodes(case: tuple[Graph, Graph, list[int]]) -> None:
    graph, copy, positions = case
    diff = qgraph.diff(graph, copy)
    assert positions_of(diff.changes, graph) == positions
    assert [change.kind for change in diff.changes] == ["changed", "removed", "changed"]
    scale, relu, weight = diff.changes
    assert [detail.what for detail in scale.details] == ["parameters"]
    assert not relu.details
    assert [detail.what for detail in weight.details] == ["constant"]
    assert weight.details[0].constant is not None
    assert weight.details[0].constant.permuted_axis == 0


def test_the_values_name_exactly_the_broken_nodes(case: tuple[Graph, Graph, list[int]]) -> None:
    graph, copy, positions = case
    diff = qgraph.diff(graph, copy, inputs=inputs_of("branches"))
    assert positions_of(diff.ranking(), graph) == positions
    first = diff.first_divergence
    assert first is not None
    assert positions_of([first], graph) == positions[:1]
    for group in diff.groups:
        assert group.numbers is not None
        assert group.numbers.own_known
    last = diff.groups[-1].numbers
    assert last is not None
    assert last.differs
    assert not last.own_differs, "the last node inherits all of it"


def test_a_graph_without_its_activation_attribute_is_pinned_to_the_node(levels: Levels) -> None:
    graph = levels["demo", "litert"]
    copy = graph.clone()
    node = next(node for node in copy.nodes if node.attrs.get("activation") == "RELU")
    node.attrs["activation"] = "NONE"
    diff = qgraph.diff(graph, copy)
    assert [str(detail) for change in diff.changes for detail in change.details] == ['activation: "RELU" -> "NONE"']


# ---- float graphs

BLOCK = """graph @g level=float (%x: f32[N,2,4,4]) {
  const @w: f32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
  %a: f32[N,2,4,4] = nn.conv(%x, @w) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]}
  %b: f32[N,2,4,4] = nn.relu(%a)
  %c: f32[N,2,4,4] = nn.max_pool(%b) {kernel=[1,1], stride=[1,1], pads=[0,0,0,0], dilation=[1,1]}
  %d: f32[N,2,4,4] = nn.conv(%c, @w) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]}
  %e: f32[N,2,4,4] = nn.add(%d, %x)
  return %e
}"""


def ops(diff: GraphDiff) -> list[tuple[str, list[str], list[str]]]:
    return [(c.kind, [n.op for n in c.before], [n.op for n in c.after]) for c in diff.changes]


def node(graph: Graph, name: str) -> Node:
    return next(node for node in graph.nodes if node.result.name == name)


@pytest.mark.parametrize("bare", [False, True])
def test_a_node_that_moved_is_one_change(bare: bool) -> None:
    graph, copy = parse(BLOCK), parse(BLOCK)
    conv, relu, pool = node(copy, "a"), node(copy, "b"), node(copy, "c")
    copy.set_operands(pool, [conv.result])
    copy.replace_uses(pool.result, relu.result)
    copy.set_operands(relu, [pool.result])
    copy = parse(str(copy).replace(*_swapped(str(copy))), constants=copy)
    diff = qgraph.diff(graph, strip(copy) if bare else copy)
    assert ops(diff) == [("moved", ["nn.relu"], ["nn.relu"])]
    assert qgraph.diff(copy, graph).counts == {"same": 4, "moved": 1}


def _swapped(text: str) -> tuple[str, str]:
    """The lines of %b and %c, and both in the other order."""
    lines = [line for line in text.splitlines(keepends=True) if line.lstrip().startswith(("%b", "%c"))]
    return "".join(lines), "".join(reversed(lines))


def test_an_operand_from_elsewhere_is_rewired() -> None:
    graph, copy = parse(BLOCK), parse(BLOCK)
    copy.set_operands(node(copy, "e"), [node(copy, "d").result, node(copy, "a").result])
    diff = qgraph.diff(graph, copy)
    assert ops(diff) == [("changed", ["nn.add"], ["nn.add"])]
    assert [detail.what for detail in diff.changes[0].details] == ["operand"]


def test_operands_of_an_addition_have_no_order() -> None:
    graph, copy = parse(BLOCK), parse(BLOCK)
    copy.set_operands(node(copy, "e"), list(reversed(node(copy, "e").operands)))
    assert qgraph.diff(graph, copy).identical


def test_another_op_in_the_same_place_is_a_change() -> None:
    graph = parse(BLOCK)
    copy = parse(BLOCK.replace("nn.relu(", "nn.sigmoid("))
    for other in (copy, strip(copy)):
        diff = qgraph.diff(graph, other)
        assert ops(diff) == [("changed", ["nn.relu"], ["nn.sigmoid"])]
        assert [str(detail) for detail in diff.changes[0].details] == ["op: nn.relu -> nn.sigmoid"]


def test_one_constant_read_twice_is_reported_at_both_readers() -> None:
    graph = parse(BLOCK)
    copy = parse(BLOCK.replace("4.0]", "5.0]"))
    details = [detail for change in qgraph.diff(graph, copy).changes for detail in change.details]
    assert [str(detail) for detail in details] == ["@w: [1.0, 2.0, 3.0, 4.0] -> [1.0, 2.0, 3.0, 5.0]"] * 2
    assert details[0].constant is not None
    assert (details[0].constant.changed, details[0].constant.max_abs) == (1, 1.0)
    assert np.isclose(details[0].constant.relative or 0, 1 / np.sqrt(30))


def test_equal_nodes_that_became_one_are_fused() -> None:
    text = """graph @g level=float (%x: f32[N,4]) {
  %a: f32[N,4] = nn.sigmoid(%x)
  %b: f32[N,4] = nn.tanh(%a)
  %c: f32[N,4] = nn.sigmoid(%x)
  %d: f32[N,4] = nn.tanh(%c)
  %e: f32[N,4] = nn.sub(%b, %d)
  return %e
}"""
    graph, copy = parse(text), parse(text)
    copy.replace_uses(node(copy, "d").result, node(copy, "b").result)
    copy.erase(node(copy, "d"))
    copy.erase(node(copy, "c"))
    for other in (copy, strip(copy)):
        diff = qgraph.diff(graph, other)
        assert diff.counts == {"same": 1, "fused": 2}, str(diff)
        assert qgraph.diff(other, graph).counts == {"same": 1, "split": 2}
