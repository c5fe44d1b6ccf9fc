"""Files with resource variables: their states are inputs and outputs of the graph, and verified over many steps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.errors import FileError, InputError, RuntimeFailure
from qgraph.exporters import tflite
from qgraph.ir import Builder, Graph, QuantParams, TensorType, set_states, states_of
from qgraph.targets.litert.c_array import to_c_array
from qgraph.targets.litert.file_format import METADATA, from_tflite, to_tflite
from qgraph.verification import verify_runtime
from tests.targets.litert.families import HERE, Families

Q = QuantParams.of(0.25, -3)
FIRST = (np.arange(8.0).reshape(1, 2, 4) / 4).ravel().tolist()  # codes -3 to 4


def stream(batch: int | str = 1) -> Graph:
    """A window of three rows, of which a state keeps two; and two more states that change places at each step."""
    graph = Graph("window", "integer", {"target": "litert"})
    kept = graph.add_input("kept", TensorType((batch, 2, 4), "i8", Q))
    x = graph.add_input("x", TensorType((batch, 1, 4), "i8", Q))
    one, other = (graph.add_input(name, TensorType((batch, 4), "i8", Q)) for name in ("one", "other"))
    build = Builder(graph).litert
    window = build.concatenation(kept, x, axis=1, element=("i8", Q), name="window")
    rest = build.slice(window, begin=(0, 1, 0), size=(-1, 2, 4), name="rest")
    summed = build.mean(window, axes=(1,), keep_dims=False, element=("i8", Q), name="summed")
    y = build.add(summed, one, element=("i8", QuantParams.of(0.5, 2)), name="y")
    graph.set_outputs([rest, y, other, one], ["", "y", "", ""])
    names = graph.output_names
    first = {"kept": FIRST, "other": 2.0}
    set_states(graph, {"kept": names[0], "one": names[2], "other": names[3]}, first)
    return graph


def steps(count: int = 40) -> np.ndarray:
    return np.random.default_rng(7).integers(-128, 128, (count, 1, 4), dtype=np.int8)


def plainly(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The results of a stream by hand: the graph is a function, whose states are handed over."""
    states = {state.input.name: state.first_value() for state in states_of(graph)}
    made = []
    for row in x:
        outputs = qgraph.run(graph, {"x": row[None], **states})
        assert isinstance(outputs, dict)
        made.append(outputs["y"])
        states = {state.input.name: outputs[graph.output_names[state.output]] for state in states_of(graph)}
    return np.concatenate(made)


def test_a_stream_hands_states_from_step_to_step() -> None:
    graph, x = stream(), steps()
    expected = plainly(graph, x)
    streamed = qgraph.Stream(graph)
    assert np.array_equal(streamed.steps(x), expected)
    streamed.reset()
    assert np.array_equal(np.concatenate([streamed.step(row[None]) for row in x]), expected)
    alone = np.concatenate([qgraph.Stream(graph).step(row[None]) for row in x])
    assert not np.array_equal(alone, expected)


def test_one_run_is_a_step_from_the_first_values() -> None:
    graph, x = stream(), steps(1)
    made = qgraph.run(graph, x)
    assert isinstance(made, dict)
    assert np.array_equal(made["y"], plainly(graph, x))


def test_states_survive_text_and_bytes_and_clones(tmp_path: Path) -> None:
    graph = stream()
    qgraph.save(graph, tmp_path / "g.qg")
    again = [qgraph.parse(str(graph), constants=graph), graph.clone(), qgraph.load(tmp_path / "g.qg")]
    for each in again:
        assert each == graph
        assert np.array_equal(qgraph.Stream(each).steps(steps()), plainly(graph, steps()))


@pytest.mark.parametrize("batch", [1, "N"])
def test_an_exported_file_reads_back_equal(batch: int | str) -> None:
    graph = stream(batch)
    data = to_tflite(graph)
    assert from_tflite(data) == graph
    assert [subgraph.name for subgraph in tflite.read(data).subgraphs] == ["window", "initial"]


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("batch", [1, "N"])
def test_every_step_is_that_of_the_runtime(target: str, batch: int | str, litert: Families) -> None:
    report = qgraph.verify(stream(batch), runtime=target, inputs=steps(), intermediate=True)
    assert report.bit_exact, report
    assert (report.samples, report.compared, len(report.nodes)) == (40, 160, 4)


@pytest.mark.parametrize("target", HERE)
def test_verify_sees_a_state_that_begins_otherwise(
    target: str, litert: Families, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime gets a file whose variable begins with other codes than that which the graph was read from."""
    made = tflite.read(to_tflite(stream()))
    made.metadata.clear()
    path = tmp_path / "theirs.tflite"
    path.write_bytes(tflite.write(made))
    assert qgraph.verify(path, runtime=target, inputs=steps()).bit_exact
    theirs = made.subgraphs[1].tensors
    theirs[1] = replace(theirs[1], data=np.zeros_like(theirs[1].data))
    monkeypatch.setattr(verify_runtime, "read_bytes", lambda path: tflite.write(made))
    report = qgraph.verify(path, runtime=target, inputs=steps())
    assert 1 <= report.mismatches <= 8, report  # the window has left it behind after two steps


def foreign(change: Callable[[tflite.Model], None]) -> bytes:
    """The file of another tool, after a change."""
    made = tflite.read(to_tflite(stream()))
    made.metadata.clear()
    change(made)
    return tflite.write(made)


def test_a_file_of_another_tool_has_states_named_after_its_variables() -> None:
    graph = from_tflite(foreign(lambda model: None))
    assert [value.name for value in graph.inputs] == ["x", "kept", "one", "other"]
    assert graph.output_names == ["y", "kept.next", "one.next", "other.next"]
    assert np.array_equal(qgraph.Stream(graph).steps(steps()), plainly(stream(), steps()))


def test_a_c_array_names_the_operators_of_variables_and_their_number() -> None:
    source = to_c_array(stream()).decode()
    assert "constexpr int kVariableCount = 3;" in source
    for method in ("CallOnce", "VarHandle", "ReadVariable", "AssignVariable"):
        assert f"resolver.Add{method}();" in source


# ---- what is read otherwise, or refused


def find(model: tflite.Model, operator: str, subgraph: int = 0) -> int:
    return next(i for i, each in enumerate(model.subgraphs[subgraph].operators) if each.name == operator)


def no_initial_values(model: tflite.Model) -> None:
    del model.subgraphs[0].operators[find(model, "CALL_ONCE")]
    del model.subgraphs[1]


def one_value_less(model: tflite.Model) -> None:
    del model.subgraphs[1].operators[find(model, "ASSIGN_VARIABLE", 1)]


def initialized_late(model: tflite.Model) -> None:
    operators = model.subgraphs[0].operators
    operators.append(operators.pop(find(model, "CALL_ONCE")))


def calls_itself(model: tflite.Model) -> None:
    operators = model.subgraphs[0].operators
    operators[0] = replace(operators[0], options={"init_subgraph_index": 0})


def initial_calls_on(model: tflite.Model) -> None:
    model.subgraphs[1].operators.insert(0, tflite.Operator("CALL_ONCE", (), (), {"init_subgraph_index": 1}))


def initial_computes(model: tflite.Model) -> None:
    model.subgraphs[1].operators.append(tflite.Operator("NEG", (1,), (1,)))


def initial_of_no_constant(model: tflite.Model) -> None:
    tensors = model.subgraphs[1].tensors
    tensors[1] = replace(tensors[1], data=None)


def first_of_another_shape(model: tflite.Model) -> None:
    tensors = model.subgraphs[1].tensors
    tensors[1] = replace(tensors[1], shape=(1, 4, 2), data=np.zeros((1, 4, 2), np.int8))


def kept_in_another_shape(model: tflite.Model) -> None:
    operators = model.subgraphs[0].operators
    place = find(model, "ASSIGN_VARIABLE")
    y = next(i for i, tensor in enumerate(model.subgraphs[0].tensors) if tensor.name == "y")
    operators[place] = replace(operators[place], inputs=(operators[place].inputs[0], y))


def no_handle(model: tflite.Model) -> None:
    operators = model.subgraphs[0].operators
    place = find(model, "READ_VARIABLE")
    operators[place] = replace(operators[place], inputs=(0,))


def reads_nothing(model: tflite.Model) -> None:
    operators = model.subgraphs[0].operators
    place = find(model, "READ_VARIABLE")
    operators[place] = replace(operators[place], inputs=())


def makes_an_input(model: tflite.Model) -> None:
    operators = model.subgraphs[0].operators
    place = find(model, "READ_VARIABLE")
    operators[place] = replace(operators[place], outputs=(model.subgraphs[0].inputs[0],))


def a_state_of_another_kind(model: tflite.Model) -> None:
    """As an LSTM has them, which begin anew where qgraph runs one, and go on where the runtime runs steps."""
    tensors = model.subgraphs[0].tensors
    place = model.subgraphs[0].inputs[0]
    tensors[place] = replace(tensors[place], is_variable=True)


def another_subgraph(model: tflite.Model) -> None:
    model.subgraphs.append(tflite.SubGraph([], [], [], [], "more"))


REFUSED = {
    no_initial_values: "read before it has a value",
    one_value_less: "read before it has a value",
    initialized_late: "read before it has a value",
    calls_itself: "CALL_ONCE calls subgraph 0",
    initial_calls_on: "subgraph 1, which CALL_ONCE runs, has CALL_ONCE",
    initial_computes: "subgraph 1, which CALL_ONCE runs, has NEG",
    initial_of_no_constant: "assigns what is no constant",
    first_of_another_shape: r"kept as i8\[1, 4, 2\]",
    kept_in_another_shape: "a variable has one shape|kept as",
    no_handle: "no handle of a variable",
    reads_nothing: "READ_VARIABLE has 0 operands",
    makes_an_input: "made twice",
    a_state_of_another_kind: "keeps a state beside those of variables",
    another_subgraph: "3 subgraphs",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_what_is_no_state_is_refused(change: Callable[[tflite.Model], None]) -> None:
    with pytest.raises(FileError, match=REFUSED[change]):
        from_tflite(foreign(change))


def read_again_behind_its_assignment(model: tflite.Model) -> None:
    """y is made of what `one` is assigned in this step, not of what it was."""
    main = model.subgraphs[0]
    reads = [each for each in main.operators if each.name == "READ_VARIABLE"]
    one = next(each for each in reads if main.tensors[each.outputs[0]].name == "one")
    tensor = main.tensors[one.outputs[0]]
    main.tensors.append(replace(tensor, name="again"))
    assign = next(each for each in main.operators if each.name == "ASSIGN_VARIABLE" and each.inputs[0] == one.inputs[0])
    main.operators.remove(assign)
    place = find(model, "ADD")
    add = main.operators[place]
    again = len(main.tensors) - 1
    inputs = tuple(again if index == one.outputs[0] else index for index in add.inputs)
    main.operators[place : place + 1] = [assign, replace(one, outputs=(again,)), replace(add, inputs=inputs)]


def never_assigned(model: tflite.Model) -> None:
    del model.subgraphs[0].operators[find(model, "ASSIGN_VARIABLE")]


def assigned_twice(model: tflite.Model) -> None:
    """The last assignment counts."""
    main = model.subgraphs[0]
    place = find(model, "ASSIGN_VARIABLE")
    handle = main.operators[place].inputs[0]
    read = next(each for each in main.operators if each.name == "READ_VARIABLE" and each.inputs[0] == handle)
    main.operators.insert(place, replace(main.operators[place], inputs=(handle, read.outputs[0])))


def read_twice(model: tflite.Model) -> None:
    main = model.subgraphs[0]
    place = find(model, "READ_VARIABLE")
    read = main.operators[place]
    main.tensors.append(replace(main.tensors[read.outputs[0]], name="again"))
    again = len(main.tensors) - 1
    main.operators.insert(place + 1, replace(read, outputs=(again,)))
    join = find(model, "CONCATENATION")
    main.operators[join] = replace(main.operators[join], inputs=(again, main.operators[join].inputs[1]))


def two_handles(model: tflite.Model) -> None:
    """One variable by two handles of the same name."""
    main = model.subgraphs[0]
    place = find(model, "VAR_HANDLE")
    handle = main.operators[place]
    main.tensors.append(replace(main.tensors[handle.outputs[0]], name="second"))
    second = len(main.tensors) - 1
    main.operators.insert(place, replace(handle, outputs=(second,)))
    assign = next(
        i
        for i, each in enumerate(main.operators)
        if each.name == "ASSIGN_VARIABLE" and each.inputs[0] == handle.outputs[0]
    )
    main.operators[assign] = replace(main.operators[assign], inputs=(second, main.operators[assign].inputs[1]))


def called_twice(model: tflite.Model) -> None:
    model.subgraphs[0].operators.insert(0, model.subgraphs[0].operators[0])


def with_other_scales(model: tflite.Model) -> None:
    """Codes are copied, whatever they stand for where they are read."""
    tensors = model.subgraphs[0].tensors
    place = next(i for i, tensor in enumerate(tensors) if tensor.name == "one")
    tensors[place] = replace(tensors[place], quantization=tflite.Quantization(np.float32([0.3]), np.array([5])))


ORDERS = (
    read_again_behind_its_assignment,
    never_assigned,
    assigned_twice,
    read_twice,
    two_handles,
    called_twice,
    with_other_scales,
)


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("change", ORDERS, ids=lambda change: change.__name__)
def test_variables_are_read_and_assigned_in_the_order_of_operators(
    change: Callable[[tflite.Model], None], target: str, litert: Families, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.tflite"
    path.write_bytes(foreign(change))
    if change is with_other_scales and target == "litert-xnnpack":
        with pytest.raises(RuntimeFailure, match="failed to delegate ASSIGN_VARIABLE"):
            qgraph.verify(path, runtime=target, inputs=steps())
        return
    report = qgraph.verify(path, runtime=target, inputs=steps(), intermediate=True)
    assert report.bit_exact, report


def test_states_that_a_runtime_keeps_cannot_be_given() -> None:
    graph = stream()
    given = {value.name: np.zeros(value.type.shape, np.int8) for value in graph.inputs}
    with pytest.raises(InputError, match="states are given: kept, one, other"):
        qgraph.verify(graph, inputs=given)


def test_inputs_that_are_no_whole_steps_are_an_error() -> None:
    with pytest.raises(InputError, match="no whole number of steps"):
        qgraph.Stream(stream()).steps(steps(0))


FOLDER = os.environ.get("QGRAPH_STREAMING") or Path(os.environ.get("QGRAPH_ASSETS", "nowhere"), "models", "streaming")
REAL = sorted(Path(FOLDER).glob("*.tflite"))
"""Wake-word models of github.com/esphome/micro-wake-word-models."""


@pytest.mark.skipif(not REAL, reason="needs QGRAPH_STREAMING, a folder of streaming models")
@pytest.mark.parametrize("target", HERE)
def test_published_wake_word_models_are_exact_over_many_steps(target: str, litert: Families) -> None:
    for path in REAL:
        report = qgraph.verify(path, runtime=target, samples=60, intermediate=True)
        assert report.bit_exact, f"{path}: {report}"
        exported = to_tflite(qgraph.load(path))
        assert from_tflite(exported) == qgraph.load(path)


@pytest.mark.skipif(not REAL, reason="needs QGRAPH_STREAMING, a folder of streaming models")
def test_published_wake_word_models_come_back_from_fake_quant() -> None:
    for path in REAL:
        graph = qgraph.load(path)
        again = qgraph.lower(qgraph.PassManager("raise-to-fake-quant").run(graph), target="litert")
        shape = [int(size) for size in graph.inputs[0].type.shape]
        x = np.random.default_rng(1).integers(-128, 128, (30, *shape[1:]), dtype=np.int8)
        ours, theirs = (qgraph.Stream(each).steps(x) for each in (again, graph))
        assert np.array_equal(np.int64(ours) + 128, theirs)  # uint8 becomes int8


def images() -> Graph:
    """A state of rank 4, which has its channels elsewhere at other levels, and begins otherwise at each place."""
    graph = Graph("images", "integer", {"target": "litert", "io_layout": "NHWC"})
    x = graph.add_input("x", TensorType((1, 1, 3, 4), "i8", Q))
    kept = graph.add_input("kept", TensorType((1, 2, 3, 4), "i8", Q))
    build = Builder(graph).litert
    window = build.concatenation(kept, x, axis=1, element=("i8", Q), name="window")
    rest = build.strided_slice(
        window, begin=(0, 1, 0, 0), end=(0, 0, 0, 0), strides=(1,) * 4, begin_mask=13, end_mask=15, element=("i8", Q)
    )
    y = build.max_pool_2d(window, kernel=(3, 2), stride=(1, 1), padding="VALID", element=("i8", Q), name="y")
    graph.set_outputs([y, rest])
    set_states(graph, {"kept": 1}, {"kept": [number / 4 for number in range(24)]})
    return graph


@pytest.mark.parametrize("make", [stream, images])
def test_first_values_move_with_their_dimensions(make: Callable[[], Graph], litert: Families) -> None:
    graph = make()
    shape = next(value.type.shape for value in graph.inputs if value.name == "x")
    x = np.random.default_rng(3).integers(-128, 127, (30, *map(int, shape[1:])), dtype=np.int8)
    raised = qgraph.PassManager("raise-to-fake-quant").run(graph)
    again = qgraph.lower(raised, target="litert")
    assert np.array_equal(qgraph.Stream(again).steps(x), qgraph.Stream(graph).steps(x))
    assert qgraph.verify(again, inputs=x, intermediate=True).bit_exact
    floats = raised.inputs[1 if make is images else 0].type.shape
    assert floats == ((1, 4, 2, 3) if make is images else (1, 2, 4))


@pytest.mark.parametrize("word", ['{"kept": "nothing"}', '{"kept": "y"}', "[]", "no JSON"])
def test_an_entry_that_says_other_states_than_the_file_is_refused(word: str) -> None:
    model = tflite.read(to_tflite(stream()))
    words = json.loads(model.metadata[METADATA])
    words["metadata"]["states"] = word
    model.metadata[METADATA] = json.dumps(words).encode()
    with pytest.raises(FileError, match="does not fit its operators"):
        from_tflite(tflite.write(model))


def test_first_values_that_were_changed_in_the_file_are_refused() -> None:
    """The entry beside them has the old ones."""
    model = tflite.read(to_tflite(stream()))
    tensors = model.subgraphs[1].tensors
    assert tensors[1].data is not None
    tensors[1] = replace(tensors[1], data=tensors[1].data + np.int8(1))
    with pytest.raises(FileError, match="its states are not the variables of the file"):
        from_tflite(tflite.write(model))
