from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import qgraph
from qgraph.arith.kept import kept_with
from qgraph.interpreter import execute
from qgraph.interpreter.plan import Plan
from qgraph.ir import Graph, TensorType, kept_by_node, op_def, parse
from qgraph.ir.op import varied

X = np.float32([[-2, -1, 0, 3]])


def graph() -> Graph:
    return parse(
        """graph @g level=float (%x: f32[N,4]) {
          const @b: f32[4]
          %1: f32[N,4] = nn.add(%x, @b)
          %2: f32[N,4] = nn.leaky_relu(%1) {negative_slope=0.5}
          return %2
        }""",
        {"b": np.float32([1, 1, 1, 1])},
    )


def other_number(g: Graph) -> None:
    g.set_data(g.constants["b"], np.float32([2, 2, 2, 2]))


def other_attribute(g: Graph) -> None:
    g.find("nn.leaky_relu")[0].attrs["negative_slope"] = 0.25


def other_operand(g: Graph) -> None:
    g.set_operands(g.find("nn.leaky_relu")[0], [g.inputs[0]])


def other_output(g: Graph) -> None:
    g.set_outputs([g.find("nn.add")[0].result])


def another_node(g: Graph) -> None:
    node = g.find("nn.leaky_relu")[0]
    g.set_outputs([g.insert_after(node).nn.relu(node.result)])


def without_a_node(g: Graph) -> None:
    node = g.find("nn.leaky_relu")[0]
    node.replace_with(node.operand(0))


def another_op(g: Graph) -> None:
    node = g.find("nn.leaky_relu")[0]
    node.op, node.attrs = "nn.relu", {}


@pytest.mark.parametrize(
    "change", [another_op, other_number, other_attribute, other_operand, other_output, another_node, without_a_node]
)
def test_a_changed_graph_gives_what_a_new_one_gives(change: Callable[[Graph], None]) -> None:
    changed, fresh = graph(), graph()
    before = qgraph.run(changed, X)
    change(changed)
    change(fresh)
    after = qgraph.run(changed, X)
    assert np.array_equal(after, qgraph.run(fresh, X))
    assert not np.array_equal(after, before)


def test_other_types_of_inputs_constants_and_results_are_seen() -> None:
    """Kernels of integers go by types alone."""
    g = qgraph.lower(qgraph.calibrate(qgraph.prepare(graph(), target="litert"), [X]), target="litert")
    x = np.int8([[-100, 0, 10, 50]])
    before = qgraph.run(g, x)
    add = g.find("litert.add")[0]
    for value in (g.inputs[0], add.operand(1), add.result):
        old = value.type
        value.type = TensorType(old.shape, old.dtype, qgraph.ir.QuantParams((float(old.q.scale[0]) * 3,), (5,)))
        assert not np.array_equal(qgraph.run(g, x), before)
        value.type = old
        assert np.array_equal(qgraph.run(g, x), before)


def test_an_unchanged_graph_keeps_its_plan_and_a_clone_has_its_own() -> None:
    g = graph()
    qgraph.run(g, X)
    plan = g.kept[Plan]
    qgraph.run(g, X)
    assert g.kept[Plan] is plan
    assert not g.clone().kept


def test_another_release_has_another_plan() -> None:
    g = parse(
        """graph @g level=integer target=litert (%x: i8<0.5:3>[N,4]) {
          %1: i8<0.5:3>[N,4] = litert.relu(%x)
          return %1
        }"""
    )
    qgraph.run(g, np.zeros((1, 4), np.int8))
    plan = g.kept[Plan]
    g.metadata["release"] = "1.2.0"
    qgraph.run(g, np.zeros((1, 4), np.int8))
    assert g.kept[Plan] is not plan


def test_an_array_is_let_go_after_its_last_use() -> None:
    g = graph()
    seen: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def watch(value: object, array: np.ndarray) -> None:
        alive.append(sum(ref() is not None for ref in seen))
        seen.append(weakref.ref(array))

    node = g.find("nn.leaky_relu")[0]
    g.set_outputs([g.insert_after(node).nn.relu6(node.result)])
    execute(g, {"x": X}, watch)
    assert alive == [0, 1, 1]


def test_an_input_may_have_another_name() -> None:
    g = graph()
    before = qgraph.run(g, X)
    g.inputs[0].name = "y"
    assert np.array_equal(qgraph.run(g, {"y": X}), before)


def test_results_are_no_memory_of_the_graph_or_the_caller() -> None:
    g = graph()
    x = X.copy()
    moved = g.insert_after(g.nodes[-1]).nn.reshape(g.inputs[0], shape=(-1, 2, 2))
    g.set_outputs([g.constants["b"], g.inputs[0], moved])
    for result in qgraph.run(g, x).values():
        result[:] = 9
    assert np.array_equal(x, X)
    assert np.array_equal(g.constants["b"].data, np.ones(4))


def test_the_result_is_not_memory_that_the_next_call_writes() -> None:
    g = graph()
    first = qgraph.run(g, X)
    copy = first.copy()
    qgraph.run(g, X + 1)
    assert np.array_equal(first, copy)


def test_what_is_kept_with_arrays_goes_with_them() -> None:
    made: list[tuple[object, ...]] = []

    @kept_with(2)
    def total(a: np.ndarray, b: np.ndarray | None, factor: object) -> float:
        made.append((factor,))
        return float(a.sum() * np.sum(factor)) + (0 if b is None else float(b.sum()))

    a, b = np.ones(3), np.ones(2)
    assert [total(a, b, 2), total(a, b, 2), total(a, None, 2), total(a, b, 3)] == [8, 8, 6, 11]
    assert total(a, b, np.array([1, 2])) == total(a, b, np.array([1, 2])) == 11
    assert len(made) == 4
    del b
    gc.collect()
    assert total(a, np.full(2, 5.0), 2) == 16


def test_what_is_kept_by_a_node_is_not_kept_by_a_varied_one() -> None:
    @kept_by_node
    def slope(op: object) -> list[float]:
        return [op.negative_slope]  # type: ignore[attr-defined]

    node = graph().find("nn.leaky_relu")[0]
    view = op_def(node.op).view(node)
    assert slope(view) == [0.5]
    assert slope(view) is slope(view)
    assert slope(varied(view, negative_slope=0.25)) == [0.25]
