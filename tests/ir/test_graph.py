"""Links, builder checks and the verifier."""

from __future__ import annotations

import gc
import weakref

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgraph.errors import InputError, TypeMismatch, VerificationError
from qgraph.ir import Builder, Graph, Origin, TensorType, parse, verify_graph
from qgraph.ir.types import dim_product


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


def test_nodes_are_a_sequence(graph: Graph) -> None:
    relu, add = graph.nodes
    assert len(graph.nodes) == 2
    assert graph.nodes[0] is graph.nodes[-2] is relu
    assert graph.nodes[1] is graph.nodes[-1] is add
    assert graph.nodes[::-1] == list(reversed(graph.nodes)) == [add, relu]
    assert relu in graph.nodes
    assert relu not in graph.clone().nodes
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"there are 2 nodes, none of index {index}"):
            graph.nodes[index]
    assert repr(graph.nodes) == "<2 nodes of @main>"


@given(st.lists(st.sampled_from(["erase", "insert before", "insert after", "keep"]), min_size=1, max_size=12))
def test_erasing_and_inserting_while_iterating_backwards_is_safe(actions: list[str]) -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(("N", 2)))
    for _ in actions:
        Builder(graph).relu(x)
    seen = []
    for node, action in zip(reversed(graph.nodes), actions, strict=False):
        seen.append(node)
        if action == "erase":
            node.erase()
        elif action == "insert after":
            graph.insert_after(node).relu(x)
    assert [node for node in seen if not node.erased] == [node for node in reversed(graph.nodes) if node in seen]
    assert len(graph.nodes) == len(list(graph.nodes)) == len(list(reversed(graph.nodes)))


def test_nodes_are_found_by_op_and_origin(graph: Graph) -> None:
    relu, add = graph.nodes
    assert graph.find("nn.relu") == [relu]
    assert graph.find("nn.add|nn.relu") == [relu, add]
    assert graph.find("nn.*") == graph.find() == graph.find(origin="head") == [relu, add]
    assert graph.find("nn.r*|quant.*", origin="h*") == [relu]
    assert graph.find("nn.*", origin="stem.*") == []


def test_replace_with_hands_over_uses_names_and_origins(graph: Graph) -> None:
    relu, add = graph.nodes
    relu.result.name = "y"
    relu.replace_with(Builder(graph, before=relu).relu6(graph.inputs[0]))
    relu6, _ = graph.nodes
    assert relu.erased
    assert add.operands == (relu6.result, relu6.result)
    assert relu6.result.name == "y"
    assert relu6.origins == (Origin("head", "net.py", 7),)
    verify_graph(graph)


def test_replace_with_refuses_what_would_make_a_cycle_and_the_wrong_number(graph: Graph) -> None:
    relu, add = graph.nodes
    with pytest.raises(InputError, match="cannot be replaced by what is computed from it"):
        relu.replace_with(graph.insert_after(relu).relu6(relu.result))
    with pytest.raises(InputError, match="has 1 results, not 2"):
        add.replace_with([relu.result, relu.result])
    verify_graph(graph)


def test_builders_stand_before_or_behind_a_node_with_its_origins(graph: Graph) -> None:
    relu, add = graph.nodes
    behind, before = graph.insert_after(relu), graph.insert_before(add)
    behind.relu6(behind.dropout(relu.result, p=0.25))
    before.tanh(relu.result)
    assert [node.op for node in graph.nodes] == ["nn.relu", "nn.dropout", "nn.relu6", "nn.tanh", "nn.add"]
    assert all(node.origins == relu.origins for node in graph.nodes)


def test_replacing_uses_keeps_the_order_of_the_other_uses(graph: Graph) -> None:
    relu, add = graph.nodes
    late = Builder(graph).tanh(graph.inputs[0])
    graph.replace_uses(relu.result, graph.inputs[0], keep=[add])
    assert relu.result.users == [add]
    graph.replace_uses(relu.result, graph.inputs[0])
    assert graph.inputs[0].users == [relu, late.producer, add]
    assert graph.inputs[0].use_count == 4


def test_the_dialect_nn_need_not_be_named_and_integers_stand_for_sizes() -> None:
    graph = Graph()
    build = Builder(graph)
    w = build.constant(np.zeros((4, 3, 3, 3), np.float32), "w")
    y = build.conv(graph.add_input("x", TensorType(("N", 3, 8, 8))), w, stride=2, pads=1, name="y")
    assert y.producer is not None
    assert y.producer.attrs["stride"] == (2, 2)
    assert y.producer.attrs["pads"] == (1, 1, 1, 1)
    assert y.producer.attrs["dilation"] == (1, 1)
    assert y.name == "y"
    line = build.conv(graph.add_input("l", TensorType(("N", 3, 8))), build.constant(np.zeros((4, 3, 3), np.float32)))
    assert line.type.shape == ("N", 4, 6)
    with pytest.raises(InputError, match=r"there is no op 'nn.covn'"):
        build.covn(y)
    with pytest.raises(TypeMismatch, match="attribute stride=True is not of type"):
        build.conv(y, w, stride=True)


def test_integers_stand_for_sizes_in_the_text_too() -> None:
    graph = parse("""graph @g level=float (%x: f32[N,1,8]) {
      const @w: f32[1,1,3] = [1, 2, 3]
      %1: f32[N,1,4] = nn.conv(%x, @w) {stride=2, pads=1}
      return %1
    }""")
    assert "{stride=[2], pads=[1,1], dilation=[1]," in str(graph)
    verify_graph(graph)


def test_products_of_symbolic_sizes_have_one_form() -> None:
    assert dim_product([]) == 1
    assert dim_product(["T", 4, "N"]) == dim_product(["N*2", "T", 2]) == "N*T*4"
    assert dim_product(["N", "N"]) == "N*N"
    assert dim_product(["N", 0]) == 0
    graph = Graph()
    x = graph.add_input("x", TensorType(("N", "T", 8)))
    y = Builder(graph).reshape(x, shape=(-1, 2))
    graph.set_outputs([y])
    assert y.type.shape == ("N*T*4", 2)
    assert parse(str(graph)) == graph


def test_notebooks_show_a_drawing_or_a_table_with_names_escaped() -> None:
    small = Graph("<b>")
    small.set_outputs([Builder(small).relu(small.add_input("<i>", TensorType(("N", 2))))])
    html = small._repr_html_()
    assert "<svg" in html
    assert "<b>" not in html
    assert "<i>" not in html
    large = Graph("large")
    x = large.add_input("x", TensorType(("N", 2)))
    for _ in range(301):
        x = Builder(large).relu(x)
    assert "<tr><td>nn.relu</td><td>301</td></tr>" in large._repr_html_()


def test_the_networkx_view_has_an_edge_for_each_operand(graph: Graph) -> None:
    view = graph.to_networkx()
    assert view.number_of_edges() == 4  # x -> relu, relu -> add twice, add -> return
    assert networkx.is_directed_acyclic_graph(view)


def test_two_values_of_one_name_are_a_violation(graph: Graph) -> None:
    relu, add = graph.nodes
    relu.result.name = add.result.name = "twice"
    with pytest.raises(VerificationError, match="the name %twice is used twice"):
        verify_graph(graph)
    relu.result.name = graph.inputs[0].name
    with pytest.raises(VerificationError, match=f"the name %{graph.inputs[0].name} is used twice"):
        verify_graph(graph)


@pytest.mark.parametrize("change", ["name", "shape", "dtype"])
def test_a_constant_that_is_not_what_it_says_is_a_violation(graph: Graph, change: str) -> None:
    w = graph.add_constant(np.zeros((4, 2), np.float32), "w")
    verify_graph(graph)
    if change == "name":
        w.name = "v"
    else:
        w.type = TensorType((4, 3)) if change == "shape" else TensorType((4, 2), "f64")
    with pytest.raises(VerificationError, match=r"constant @w is .* its data float32"):
        verify_graph(graph)


def test_a_graph_that_returns_nothing_is_a_violation(graph: Graph) -> None:
    graph.set_outputs([])
    with pytest.raises(VerificationError, match="the graph returns nothing"):
        verify_graph(graph)


LEVELS = {"nn.relu": {"float", "fake_quant", "integer"}, "quant.fake_quant": {"fake_quant"}, "litert.relu": {"integer"}}


@pytest.mark.parametrize("op", LEVELS)
@pytest.mark.parametrize("level", ["float", "fake_quant", "integer"])
def test_a_level_admits_its_dialects_alone(op: str, level: str) -> None:
    graph = Graph("g", level)
    x = graph.add_input("x", TensorType(("N", 2)))
    graph.set_outputs([graph.insert(op, [x], {}, [TensorType(("N", 2))]).result])
    try:
        verify_graph(graph)
        text = ""
    except VerificationError as error:
        text = str(error)
    assert ("holds no op of" in text) == (level not in LEVELS[op])


def test_a_value_named_as_its_default_does_not_take_a_given_name() -> None:
    """It is called otherwise, however often it is returned."""
    graph = parse("graph @g level=float (%x: f32[4]) {\n  %output_1: f32[4] = nn.relu(%x)\n  return %x, %output_1\n}")
    graph.set_outputs([graph.outputs[0], graph.outputs[1], graph.outputs[1]], ["", "", "output_1"])
    assert graph.output_names == ["x", "output_1_", "output_1"]


def test_a_constant_of_one_graph_gets_another_array() -> None:
    graph = parse(
        "graph @g level=float (%x: f32[2]) {\n const @w: f32[2] = [1.0, 2.0]\n"
        " %1: f32[2] = nn.add(%x, @w)\n return %1\n}"
    )
    clone = graph.clone()
    graph.set_data(graph.constants["w"], np.float32([3, 4]))
    assert graph.constants["w"].data.tolist() == [3, 4]
    assert clone.constants["w"].data.tolist() == [1, 2]
    with pytest.raises(InputError, match=r"cannot become an array of \(3,\)"):
        graph.set_data(graph.constants["w"], np.zeros(3, np.float32))
    with pytest.raises(InputError, match="constant @w"):
        graph.set_data(clone.constants["w"], np.zeros(2, np.float32))


def test_a_dismantled_graph_is_freed_without_a_collection() -> None:
    graph = parse(
        "graph @g level=float (%x: f32[2]) {\n %1: f32[2] = nn.relu(%x)\n %2: f32[2] = nn.add(%1, %1)\n return %2\n}"
    )
    held = weakref.ref(graph)
    gc.disable()
    try:
        graph.dismantle()
        del graph
        assert held() is None
    finally:
        gc.enable()
