"""What a graph and its runtime are given to compare on: states that a runtime keeps, examples one by one."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.errors import InputError
from qgraph.ir import Graph, TensorType, parse, set_states, states_of
from qgraph.verification.steps import Steps, returning_all, shown
from qgraph.verification.verify_runtime import _parts
from tests.targets.litert.test_svdf import layers

X = np.float32([[1, -2], [3, 4], [5, -6]])
GIVEN = np.float32([[10, 20], [30, 40], [50, 60]])


def summing(target: str) -> Graph:
    """A state, which sums up what comes, before the input, and its next value before the result."""
    graph = parse("""graph @g level=float (%s: f32[1,2], %x: f32[1,2]) {
  %next: f32[1,2] = nn.add(%x, %s)
  %y: f32[1,2] = nn.relu(%next)
  return %next, %y
}""")
    set_states(graph, {"s": 0}, {"s": [100.0, 0.5]})
    graph.metadata["target"] = target
    return graph


SUMS = [[101, -1.5], [104, 2.5], [109, -3.5]]
POSITIVE = [[101, 0], [104, 2.5], [109, 0]]


def expected(steps: Steps, *given: np.ndarray) -> list[list[list[float]]]:
    runs = steps.feeds(dict(zip(("x", "s"), given, strict=False)), None)
    return [[array[0].tolist() for array in arrays] for arrays in steps.expected(runs)]


def test_a_runtime_that_keeps_states_has_the_other_inputs_and_outputs() -> None:
    steps = Steps(summing("litert"))
    assert (steps.kept, steps.inputs, steps.outputs, steps.output_names) == (True, ["x"], [1], ["y"])
    assert steps.options == {"steps": True}
    assert list(steps.samples(3, 0)) == ["x"]
    assert expected(steps, X) == [[each] for each in POSITIVE]
    assert steps.by_position([{"s": GIVEN, "x": X}]) == [[X]]
    with pytest.raises(InputError) as caught:
        steps.feeds({"s": GIVEN, "x": X}, None)
    assert str(caught.value) == "states are given: s\n  help    a stream begins with its first values: give x"


def test_a_runtime_without_states_has_them_as_inputs_and_outputs() -> None:
    steps = Steps(summing("onnxruntime"))
    assert (steps.kept, steps.inputs, steps.outputs) == (False, ["s", "x"], [0, 1])
    assert steps.output_names == ["next", "y"]
    assert steps.options == {}
    assert list(steps.samples(3, 0)) == ["s", "x"]
    assert expected(steps, X) == [list(pair) for pair in zip(SUMS, POSITIVE, strict=True)]
    assert expected(steps, X, GIVEN) == [[[11, 18], [11, 18]], [[33, 44], [33, 44]], [[55, 54], [55, 54]]]


def test_a_graph_without_states_is_run_as_it_is() -> None:
    graph = summing("litert")
    set_states(graph, {})
    steps = Steps(graph)
    assert (steps.kept, steps.inputs, steps.output_names, steps.options) == (False, ["s", "x"], ["next", "y"], {})


def test_all_results_come_before_the_states_of_a_runtime_that_keeps_them() -> None:
    whole = returning_all(summing("litert"))
    assert [value.name for value in whole.outputs] == ["next", "y", "next"]
    assert [(state.input.name, state.output) for state in states_of(whole)] == [("s", 2)]
    plain = returning_all(summing("onnxruntime"))
    assert [value.name for value in plain.outputs] == ["next", "y"]
    assert states_of(plain) == []


def test_what_an_op_keeps_itself_is_no_result_that_a_runtime_gives() -> None:
    graph = layers(0, "i16", count=2)
    assert [list(shown(node)) for node in graph.nodes] == [[node.results[0]] for node in graph.nodes]
    add = summing("litert").nodes[0]
    assert list(shown(add)) == list(add.results)


SHAPES: dict[str, tuple[list[tuple[int | str, ...]], tuple[int | str, ...], str, int]] = {
    "the examples first": ([("N", 2)], ("N", 2), "tflm", 1),
    "the examples second": ([("N", 2)], (2, "N"), "tflm", 3),
    "the examples in two places": ([("N", 2)], ("N", "2*N"), "tflm", 3),
    "no examples": ([("N", 2)], (2,), "tflm", 3),
    "nothing": ([("N", 2)], (), "tflm", 3),
    "a runtime that takes many at once": ([("N", 2)], (2, "N"), "litert", 1),
    "a number of examples that is fixed": ([(3, 2)], (2, 3), "tflm", 1),
    "a number of examples that is fixed for one input": ([("N", 2), (3, 2)], (2, "N"), "tflm", 1),
    "an input without dimensions": ([("N", 2), ()], (2, "N"), "tflm", 1),
    "inputs of two batches, both of which the result lacks": ([("N", 2), ("N", 2)], (2, "N"), "tflm", 3),
}


@pytest.mark.parametrize("case", SHAPES)
def test_examples_come_one_by_one_where_the_runtime_wants_that_and_results_mix_them(case: str) -> None:
    inputs, output, target, count = SHAPES[case]
    graph = Graph("g", "integer", {"target": target})
    values = [graph.add_input(f"x{i}", TensorType(shape, "i8")) for i, shape in enumerate(inputs)]
    made = graph.insert("litert.relu", values[:1], {}, [TensorType(output, "i8")])
    graph.set_outputs(list(made.results))
    runs = [{value.name: np.arange(6).reshape(3, 2) for value in values}]
    parts = _parts(graph, runs)
    assert len(parts) == count
    for name in runs[0]:
        assert np.array_equal(np.concatenate([part[name] for part in parts]), runs[0][name])


def test_one_output_with_the_examples_elsewhere_is_enough_to_give_them_one_by_one() -> None:
    graph = Graph("g", "integer", {"target": "tflm"})
    x = graph.add_input("x", TensorType(("N", 2), "i8"))
    types = [TensorType(("N", 2), "i8"), TensorType((2, "N"), "i8")]
    graph.set_outputs([graph.insert("litert.relu", [x], {}, [type]).results[0] for type in types])
    assert len(_parts(graph, [{"x": np.zeros((4, 2), np.int8)}])) == 4
