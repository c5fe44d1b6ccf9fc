"""Links, builder checks and the verifier."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

from qgraph.errors import InputError, TypeMismatch, VerificationError
from qgraph.ir import Builder, Graph, Origin, TensorType, verify_graph


@pytest.fixture
def graph() -> Graph:
    graph = Graph()
    x = graph.add_input("x", TensorType(("N", 2)))
    build = Builder(graph, origins=(Origin("head", "net.py", 7),))
    y = build.nn.relu(x)
    graph.set_outputs([build.nn.add(y, y)])
    return graph


def test_uses_count_operands_and_outputs(graph: Graph) -> None:
    relu, add = graph.nodes
    assert relu.result.users == [add]
    assert relu.result.use_count == 2
    assert not relu.result.has_one_use
    assert add.result.is_output
    assert add.result.has_one_use


def test_replace_uses_and_erase_keep_the_links(graph: Graph) -> None:
    relu, add = graph.nodes
    with pytest.raises(InputError, match="its result is used"):
        graph.erase(relu)
    graph.replace_uses(relu.result, graph.inputs[0])
    graph.erase(relu)
    assert [node.op for node in graph.nodes] == ["nn.add"]
    assert graph.inputs[0].users == [add]
    verify_graph(graph)


def test_erasing_and_inserting_while_iterating_is_safe(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op == "nn.relu":
            made = Builder(graph, node).nn.dropout(node.operand(0))
            graph.replace_uses(node.result, made)
            graph.erase(node)
    assert [node.op for node in graph.nodes] == ["nn.dropout", "nn.add"]


def test_a_clone_shares_constants_and_is_independent() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(("N", 2)))
    w = graph.add_constant(np.eye(2, dtype=np.float32), "w")
    graph.set_outputs([Builder(graph).nn.linear(x, w)])
    copy = graph.clone()
    assert copy.constants["w"].data is w.data
    (node,) = copy.nodes
    copy.set_outputs([copy.inputs[0]])
    copy.erase(node)
    assert len(graph) == 1


def test_types_are_checked_where_a_node_is_built(graph: Graph) -> None:
    w = graph.add_constant(np.zeros((4, 3), np.float32), "w")
    with pytest.raises(TypeMismatch, match=r"nn.linear: w is f32\[4,3\]: I is 3 there, 2 elsewhere"):
        Builder(graph).nn.linear(graph.inputs[0], w)
    with pytest.raises(TypeMismatch, match=r"nn.relu has no attribute slope"):
        Builder(graph).nn.relu(graph.inputs[0], slope=0.1)
    with pytest.raises(TypeMismatch, match="activation='tanh' is not one of none, relu, relu6"):
        Builder(graph).nn.add(graph.inputs[0], graph.inputs[0], activation="tanh")


def test_the_verifier_reports_every_violation_with_its_origin(graph: Graph) -> None:
    relu, add = graph.nodes
    relu.result.type = TensorType(("N", 3))
    add.attrs["activation"] = "what"
    graph.insert("quant.fake_quant", [graph.inputs[0]], {}, [TensorType(("N", 2))])
    with pytest.raises(VerificationError) as error:
        verify_graph(graph)
    text = str(error.value)
    assert "result result is declared f32[N,3], inferred f32[N,2]" in text
    assert "activation='what' is not one of" in text
    assert "a graph of level float holds no op of the quant dialect" in text
    assert "head  (net.py:7)" in text


def test_the_networkx_view_has_an_edge_for_each_operand(graph: Graph) -> None:
    view = graph.to_networkx()
    assert view.number_of_edges() == 4  # x -> relu, relu -> add twice, add -> return
    assert networkx.is_directed_acyclic_graph(view)
