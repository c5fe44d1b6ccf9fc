"""The verifier's messages, each in full, and what it lets pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qgraph.errors import VerificationError
from qgraph.ir import Builder, Graph, Origin, QuantParams, TensorType, Value, verify_graph

F2, F3 = TensorType(("N", 2)), TensorType(("N", 3))
I8 = TensorType(("N", 4), "i8", QuantParams.of(0.5, 0))


def split(graph: Graph, count: int) -> None:
    """A litert.split into two, with so many results."""
    graph.level = "integer"
    x = graph.add_input("q", I8)
    half = I8.with_shape(("N", 2))
    made = graph.insert("litert.split", [x], {"axis": 1, "parts": 2}, [half] * count)
    graph.set_outputs([*graph.outputs, *made.results])


def unfitting(graph: Graph) -> None:
    """A sum of i8 that gives u8."""
    graph.level = "integer"
    q = graph.add_input("q", I8)
    graph.set_outputs([graph.insert("ort.QLinearAdd", [q, q], {}, [TensorType(("N", 4), "u8", I8.quant)]).result])


def added(graph: Graph, op: str, *types: TensorType, **attrs: object) -> None:
    made = graph.insert(op, [graph.inputs[0]], attrs, types)  # type: ignore[arg-type]
    graph.set_outputs([*graph.outputs, *made.results])


def named(graph: Graph, name: str, type: TensorType, data: np.ndarray) -> None:
    graph.constants[name] = Value(type, "w", data=data)


def before_its_use(graph: Graph) -> None:
    relu, add = graph.nodes
    graph.set_operands(relu, [add.result])


def of_another(graph: Graph) -> None:
    graph.set_outputs([*graph.outputs, Graph().add_input("other", F2)])


def i4(*values: int) -> Callable[[Graph], None]:
    type = TensorType((len(values),), "i4", QuantParams.of(0.5, 0))
    return lambda graph: named(graph, "w", type, np.array(values, np.int8))


def mistyped(type: TensorType) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        graph.nodes[0].result.type = type
        graph.set_operands(graph.nodes[1], [graph.inputs[0]] * 2)

    return change


def clashing(*names: str) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        for node, name in zip(graph.nodes, names, strict=True):
            node.result.name = name

    return change


CASES: dict[str, tuple[Callable[[Graph], None], list[str]]] = {
    "nothing": (lambda graph: None, []),
    "no output": (lambda graph: graph.set_outputs([]), ["the graph returns nothing"]),
    "an output of another graph": (of_another, ["the graph returns %other: f32[N,2], which is not in it"]),
    "a constant of another name": (
        lambda graph: named(graph, "v", TensorType((2,)), np.zeros(2, np.float32)),
        ["constant @v is f32[2], its data float32[2]"],
    ),
    "a constant of another shape": (
        lambda graph: named(graph, "w", TensorType((3,)), np.zeros(2, np.float32)),
        ["constant @w is f32[3], its data float32[2]"],
    ),
    "a constant of another type": (
        lambda graph: named(graph, "w", TensorType((2,)), np.zeros(2)),
        ["constant @w is f32[2], its data float64[2]"],
    ),
    "i4 within": (i4(-8, 7), []),
    "i4 below": (i4(-9, 0), ["constant @w is i4<0.5:0>[2], its data reach from -9 to 0"]),
    "i4 above": (i4(0, 8), ["constant @w is i4<0.5:0>[2], its data reach from 0 to 8"]),
    "i4 of nothing": (i4(), []),
    "i4 of one number": (i4(3, 3), []),
    "names that differ": (clashing("a", "b"), []),
    "results without a name": (clashing("", ""), []),
    "two results of one name": (clashing("a", "a"), ["the name %a is used twice"]),
    "a result named as an input": (clashing("a", "x"), ["the name %x is used twice"]),
    "an operand that comes later": (
        before_its_use,
        [
            "operand %?: f32[N,2] is not defined before its use\n"
            "    %1: f32[N,2] = nn.relu(%2)\n    from head  (net.py:7)"
        ],
    ),
    "another shape": (
        mistyped(F3),
        [
            "result result is declared f32[N,3], inferred f32[N,2]\n"
            "    %1: f32[N,3] = nn.relu(%x)\n    from head  (net.py:7)"
        ],
    ),
    "an op that there is not": (
        lambda graph: added(graph, "nn.nothing", F2),
        ["there is no op 'nn.nothing'\n    %3: f32[N,2] = nn.nothing(%x)"],
    ),
    "too few results of many": (lambda graph: split(graph, 1), ["litert.split makes 2 results here, not 1"]),
    "as many results": (lambda graph: split(graph, 2), []),
    "too many results": (lambda graph: split(graph, 3), ["litert.split makes 2 results here, not 3"]),
    "another number of results": (lambda graph: added(graph, "nn.relu", F2, F2), ["nn.relu has 1 result, not 2"]),
    "what the op itself checks": (
        unfitting,
        [
            "ort.QLinearAdd: operand i8<0.5:0>[N,4] and result u8<0.5:0>[N,4] must have one dtype, "
            "and parameters per tensor"
        ],
    ),
    "no result": (lambda graph: added(graph, "nn.relu"), ["nn.relu has 1 result, not 0"]),
}


@pytest.fixture
def graph() -> Graph:
    graph = Graph("g")
    x = graph.add_input("x", F2)
    y = Builder(graph, origins=(Origin("head", "net.py", 7), Origin("tail", "net.py", 8))).nn.relu(x)
    graph.set_outputs([Builder(graph).nn.add(y, y)])
    return graph


@pytest.mark.parametrize("case", CASES)
def test_a_violation_is_said_in_full(graph: Graph, case: str) -> None:
    change, expected = CASES[case]
    change(graph)
    if not expected:
        verify_graph(graph)
        return
    with pytest.raises(VerificationError) as caught:
        verify_graph(graph)
    (found,) = caught.value.where
    assert (found if "\n" in expected[0] else found.partition("\n")[0]) == expected[0]
    assert caught.value.what == f"graph @g (level {graph.level}) breaks 1 rule"


def test_all_violations_are_told_in_order_with_the_rule_that_made_a_node(graph: Graph) -> None:
    relu, add = graph.nodes
    relu.result.type = F3
    add.attrs["activation"] = "what"
    added(graph, "nn.nothing", F2)
    with pytest.raises(VerificationError) as caught:
        verify_graph(graph, {relu: "spoil (rules.py:3)", graph.nodes[-1]: "other"})
    assert caught.value.what == "graph @g (level float) breaks 3 rules"
    assert [text.splitlines()[0].partition(" is not one of")[0] for text in caught.value.where] == [
        "result result is declared f32[N,3], inferred f32[N,2]",
        "nn.add: activation='what'",
        "there is no op 'nn.nothing'",
    ]
    first, second, third = (text.splitlines()[2:] for text in caught.value.where)
    assert first == ["    from head  (net.py:7)", "    made by rule spoil (rules.py:3)"]
    assert second == []
    assert third == ["    made by rule other"]


QUANT = QuantParams.of(0.25, 3)


@pytest.mark.parametrize(
    ("type", "message"),
    [
        (TensorType(("N", 2), "u8", QUANT), ""),
        (TensorType(("N", 2), "i8", QUANT), ""),
        (
            TensorType(("N", 2), "i64", QUANT),
            "litert.quantize: result is i64<0.25:3>[N,2], expected i8q|u8q|i16q|i32q[...]",
        ),
        (TensorType(("N", 3), "i8", QUANT), "result result is declared i8<0.25:3>[N,3], inferred i8<0.25:3>[N,2]"),
    ],
)
def test_an_element_type_that_is_free_has_to_be_one_that_the_op_has(type: TensorType, message: str) -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    graph.set_outputs([graph.insert("litert.quantize", [graph.add_input("x", F2)], {}, [type]).result])
    if not message:
        verify_graph(graph)
        return
    with pytest.raises(VerificationError) as caught:
        verify_graph(graph)
    assert caught.value.where[0].partition("\n")[0] == message
