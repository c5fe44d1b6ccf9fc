"""What a row of a target's correspondences says, in both directions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from qgraph import targets
from qgraph.ir import Builder, Graph, Node, QuantParams, TensorType, parse
from qgraph.ops import nn as _nn  # noqa: F401  # registers the ops
from qgraph.targets.correspondence import Call, Codec, Correspondence, Pair, Refusal, bound_to
from qgraph.targets.lowering import Lowering, choose, combined, fail, fake_quant_of, illegal
from qgraph.targets.target import Target, not_offered

Q = QuantParams.of(0.5, 0)


def node(op: str = "leaky_relu", **attrs: Any) -> Node:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", 4, 4, 2)))
    made = Builder(graph).node(f"nn.{op}", [x, x] if op == "add" else [x], attrs).result
    graph.set_outputs([made])
    assert made.producer is not None
    return made.producer


def call(of: Node) -> Call:
    lowering = Lowering(of.graph, targets.get("litert"), "integer")
    x = lowering.graph.add_input("x", TensorType(("N", 4, 4, 2), "i8", Q))
    return Call(lowering, of, [x], ("i8", QuantParams.of(0.25, 1)))


def leaky(**fields: Any) -> Correspondence:
    slope = Pair("alpha", lambda value: value * 2, lambda view: view.alpha / 2)
    return Correspondence(source="leaky_relu", target="litert.leaky_relu", attrs={"negative_slope": slope}, **fields)


# ---- down


def test_attributes_go_over_by_pairs_then_codecs_then_what_is_always_so() -> None:
    row = leaky(codecs=(Codec(down=lambda call: {"beta": 1, "gamma": 1}),), always={"gamma": 2})
    assert row.target_attrs(call(node(negative_slope=0.25))) == {"alpha": 0.5, "beta": 1, "gamma": 2}
    same = Correspondence(source="leaky_relu", target="litert.leaky_relu", attrs={"negative_slope": "alpha"})
    assert same.target_attrs(call(node(negative_slope=0.25))) == {"alpha": 0.25}


@pytest.mark.parametrize(("result", "quant"), [("own", QuantParams.of(0.25, 1)), ("operand", Q)])
def test_a_result_has_its_own_parameters_or_those_of_its_operand(result: Any, quant: QuantParams) -> None:
    made = leaky(result=result).lowered(call(node(negative_slope=0.25)))
    assert made.type.quant == quant
    assert made.producer is not None
    assert made.producer.attrs == {"alpha": 0.5}


def test_given_attributes_go_before_those_of_the_row_and_after_stands_behind() -> None:
    row = leaky(after=lambda call, value: call.build.litert.relu(value, element=call.element))
    made = row.lowered(call(node(negative_slope=0.25)), alpha=0.75)
    assert made.producer is not None
    assert made.producer.op == "litert.relu"
    below = made.producer.operand(0).producer
    assert below is not None
    assert below.attrs == {"alpha": 0.75}


def test_what_is_against_a_node_is_said_in_order() -> None:
    refused = Refusal("the codec refuses")
    when = leaky(codecs=(Codec(), Codec(when=lambda node: refused)), when=lambda node: Refusal("the row refuses"))
    assert when.against(node(), "litert") is refused
    only = leaky(only={"negative_slope": 0.5}, when=lambda node: Refusal("the row refuses"))
    assert only.against(node(negative_slope=0.25), "litert") == Refusal(
        "LEAKY_RELU has no negative_slope=0.25, only 0.5"
    )
    assert only.against(node(negative_slope=0.5), "litert") == Refusal("the row refuses")
    assert leaky().against(node(), "litert") is None
    add = Correspondence(source="add", target="litert.add", activations=("none", "relu"))
    assert add.against(node("add", activation="relu"), "litert") is None
    reason = add.against(node("add", activation="relu6"), "litert")
    assert reason is not None
    assert reason.reason == "litert cannot lower nn.add with the activation relu6"


# ---- up


DEFAULTS = {"alpha": 1.0, "activation": "NONE", "flag": None, "mode": "a"}


@pytest.mark.parametrize(
    ("fields", "attrs", "named"),
    [
        ({}, {"alpha": 3.0}, ""),
        ({}, {"mode": "a"}, ""),
        ({}, {"mode": "b"}, "mode=b"),
        ({"codecs": (Codec(("mode",)),)}, {"mode": "b"}, ""),
        ({"always": {"mode": "b"}}, {"mode": "b"}, ""),
        ({"always": {"mode": "b"}}, {"mode": "a"}, "mode=a"),
        ({}, {"mode": None}, ""),
        ({}, {"flag": False}, ""),
        ({}, {"flag": True}, "flag=True"),
        ({}, {"flag": 3}, "flag=3"),
        ({"always": {"flag": True}}, {"flag": False}, "flag=False"),
        ({}, {"activation": "RELU"}, "activation=RELU"),
        ({"behind": lambda build, value, word: value}, {"activation": "RELU"}, ""),
    ],
)
def test_what_the_source_cannot_say_is_named(fields: dict[str, Any], attrs: dict[str, Any], named: str) -> None:
    refusal = leaky(**fields).uncarried(SimpleNamespace(), attrs, DEFAULTS)
    assert (refusal.reason if refusal else "") == (f"nn.leaky_relu cannot carry {named}" if named else "")


def test_a_row_may_refuse_instances() -> None:
    row = leaky(refused=lambda view: Refusal("not this one") if view.alpha < 0 else None)
    assert row.uncarried(SimpleNamespace(alpha=-1.0), {}, {}) == Refusal("not this one")
    assert row.uncarried(SimpleNamespace(alpha=1.0), {}, {}) is None


def raised(row: Correspondence, operands: list[Any], **view: Any) -> Node:
    made = row.counterpart(
        Builder(operands[0].graph if hasattr(operands[0], "graph") else GRAPH), SimpleNamespace(**view), operands
    )
    assert made.producer is not None
    return made.producer


GRAPH = Graph("up")
X, Y = (GRAPH.add_input(name, TensorType((1, 4, 4, 2))) for name in "xy")


def test_a_counterpart_has_the_rows_attributes() -> None:
    row = leaky(codecs=(Codec(up=lambda view: {}),))
    assert raised(row, [X], alpha=0.5).attrs == {"negative_slope": 0.25}
    only = Correspondence(source="clamp", target="litert.relu_n1_to_1", only={"min": -1.0, "max": 1.0})
    assert raised(only, [X]).attrs == {"min": -1.0, "max": 1.0}
    codec = Correspondence(source="leaky_relu", target="t", codecs=(Codec(up=lambda view: {"negative_slope": 3.0}),))
    assert raised(codec, [X]).attrs == {"negative_slope": 3.0}


def test_operands_go_to_their_places_and_an_activation_behind() -> None:
    swapped = Correspondence(source="sub", target="t", places=(1, 0))
    assert list(raised(swapped, [X, Y]).inputs) == [Y, X]
    assert list(raised(Correspondence(source="sub", target="t"), [[X, Y]]).inputs) == [X, Y]
    behind = Correspondence(
        source="sub", target="t", behind=lambda build, value, word: build.node(word, [value], {}).result
    )
    assert raised(behind, [X, Y], activation="nn.relu").op == "nn.relu"
    spatial = Correspondence(source="max_pool", target="t", codecs=(Codec(up=lambda view: POOL),))
    assert raised(spatial, [X]).op == "nhwc.max_pool"
    own = Correspondence(source="sub", target="t", raised=lambda build, view, operands: build.nn.add(*operands))
    assert raised(own, [X, Y]).op == "nn.add"


POOL = {"kernel": (2, 2), "stride": (2, 2), "pads": (0, 0, 0, 0)}


# ---- which row


def test_rows_say_which_nodes_move() -> None:
    moves = bound_to([leaky(moves=lambda node: node.attrs["negative_slope"] > 0), leaky(), CONCAT])
    assert moves(node(negative_slope=0.5)) is True
    assert moves(node(negative_slope=-0.5)) is False
    assert moves(node("relu")) is None


CONCAT = Correspondence(source="concat", target="t")


def test_every_node_that_cannot_be_lowered_is_told_with_every_reason_once() -> None:
    graph = node("hard_sigmoid").graph
    x = graph.inputs[0]
    build = Builder(graph)
    graph.set_outputs([graph.outputs[0], build.nn.softmax(x, axis=2), build.nn.relu(x)])
    found = illegal(graph, targets.get("litert"))
    assert [each.op for each, _ in found] == ["nn.hard_sigmoid", "nn.softmax"]
    assert found[0][1].reason == "litert cannot lower nn.hard_sigmoid"
    errors = [fail(each, *refusal) for each, refusal in found]
    assert str(combined(errors, "litert cannot lower")).startswith("litert cannot lower 2 nodes")
    assert str(combined(errors[:1], "litert cannot lower")) == str(errors[0])
    assert isinstance(choose(graph.nodes[-1], targets.get("litert")), Correspondence)


def test_what_is_quantized_already_and_what_constants_make_are_no_nodes_to_lower() -> None:
    graph = parse("""graph @g level=fake_quant (%x: f32[N,2,4]) {
      const @s: f32[1] = 0.5, @z: i32[1] = 0, @k: f32[1,2,4] = 1.0
      %1: f32[N,2,4] = quant.fake_quant(%x, @s, @z)
      %2: f32[1,2,4] = nn.softmax(@k) {axis=1}
      %3: f32[1,2,4] = quant.fake_quant(%2, @s, @z)
      %4: f32[N,2,4] = nn.add(%1, %3)
      %5: f32[N,2,4] = nn.softmax(%4) {axis=1}
      return %5
    }""")
    assert [node.op for node, _ in illegal(graph, targets.get("litert"))] == ["nn.softmax"]


def rows(*refusals: str, applies: bool = True) -> Target:
    """litert with one row for leaky_relu for each reason, with its help; none where that is empty."""
    made = [leaky(when=lambda node, said=said: refused(said), applies=lambda node: applies) for said in refusals]
    return replace(targets.get("litert"), correspondences=tuple(made), floats=tuple(made[1:]), float_ops={})


def refused(said: str) -> Refusal | None:
    return Refusal(said, f"against {said}") if said else None


def test_the_first_row_that_has_nothing_against_a_node_lowers_it_or_all_reasons_are_given() -> None:
    target = rows("one", "", "two", "")
    assert choose(node(), target) is target.correspondences[1]
    assert choose(node(), target, in_float=True) is target.floats[0]
    assert choose(node(), rows("one", "two", "one")) == ("one; two", "against one")
    assert choose(node(), rows("one", "two", "three"), in_float=True) == ("two; three", "against two")
    nothing = ("litert cannot lower nn.leaky_relu", "see `qgraph targets litert`")
    assert choose(node(), rows("", applies=False)) == choose(node(), rows()) == nothing


def test_an_op_that_the_runtime_lacks_is_against_its_row_on_integers_and_on_floats_apart() -> None:
    lacking = {"litert.leaky_relu": not_offered("no integers"), "litert.float_leaky_relu": not_offered("no floats")}
    target = replace(rows("", ""), kernels=lacking)
    assert choose(node(), target) == Refusal("no integers")
    assert choose(node(), target, in_float=True) == Refusal("no integers")
    floats = replace(target, float_ops={"litert.leaky_relu": "litert.float_leaky_relu"})
    assert choose(node(), floats, in_float=True) == Refusal("no floats")
    assert choose(node(), floats) == Refusal("no integers")


def test_what_a_kernel_does_not_store_is_asked_of_indices_of_floats_and_of_what_reads_no_floats() -> None:
    def said(op: str, read: TensorType | None, made: TensorType) -> str:
        return f"{read and read.dtype} to {made.dtype}"

    kernels = {f"litert.{op}": SimpleNamespace(lacks_storage=said) for op in ("arg_max", "cast", "gather")}
    target = replace(targets.get("litert"), kernels=kernels)
    cast = parse('graph @g level=float (%i: i32[N]) {\n  %1: f32[N] = nn.cast(%i) {dtype="f32"}\n  return %1\n}')
    assert choose(node("argmax", axis=1), target, in_float=True) == Refusal("None to i32")
    assert choose(cast.nodes[0], target) == Refusal("i32 to f32")
    chosen = parse("""graph @g level=float (%x: f32[4], %i: i32[N]) {
      %1: f32[N] = nn.gather(%x, %i) {axis=0}
      return %1
    }""")
    assert isinstance(choose(chosen.nodes[0], target), Correspondence)


def test_errors_are_combined_in_order_with_the_first_help() -> None:
    relu = node("relu")
    errors = [fail(relu, "first"), fail(relu, "second", "do that"), fail(relu, "third", "do this")]
    assert str(combined(errors, "litert cannot lower")) == (
        "litert cannot lower 3 nodes\n"
        + "".join(f"  {word}\n    node    %1: f32[N,4,4,2] = nn.relu(%x)\n" for word in ("first", "second", "third"))
        + "  help    do that"
    )


def test_what_a_value_becomes_is_said_behind_moves_that_alone_read_it() -> None:
    graph = parse("""graph @g level=fake_quant (%x: f32[N,2], %y: f32[N,2], %z: f32[N,2], %w: f32[N,2]) {
      const @s: f32[1] = 0.5, @z0: i32[1] = 0
      %1: f32[N,2] = nn.transpose(%x) {perm=[0,1]}
      %2: f32[N,2] = nn.reshape(%1) {shape=[-1,2]}
      %3: f32[N,2] = quant.fake_quant(%2, @s, @z0)
      %4: f32[N,2] = nn.relu(%y)
      %5: f32[N,2] = quant.fake_quant(%4, @s, @z0)
      %6: f32[N,2] = nn.reshape(%z) {shape=[-1,2]}
      %7: f32[N,2] = quant.fake_quant(%6, @s, @z0)
      %8: f32[N,2] = nn.relu(%z)
      %9: f32[N,2] = nn.relu(%w)
      %10: f32[N,2] = quant.fake_quant(%w, @s, @z0)
      return %3, %5, %7, %8, %9, %10
    }""")
    x, y, z, w = graph.inputs
    assert fake_quant_of(x) is fake_quant_of(graph.nodes[0].result) is graph.nodes[2]
    assert fake_quant_of(y) is None
    assert fake_quant_of(z) is None
    assert fake_quant_of(w) is graph.nodes[9]
