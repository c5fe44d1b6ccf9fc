"""Variables of files made by hand, tensor by tensor: what becomes an input and an output, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qgraph.errors import ExportError, FileError
from qgraph.exporters.tflite import Model, Operator, Quantization, SubGraph, Tensor
from qgraph.targets.litert.variables import Variable, changes, with_variables, without_variables

Q, OTHER = (Quantization(np.float32([scale]), np.array([3])) for scale in (0.5, 0.25))


def codes(name: str, quantization: Quantization | None = Q, shape: tuple[int, ...] = (1, 2)) -> Tensor:
    return Tensor(name, "i8", shape, None, quantization)


def handle(name: str) -> Tensor:
    return Tensor(name, "resource", ())


def call(number: int = 1) -> Operator:
    return Operator("CALL_ONCE", (), (), {"init_subgraph_index": number})


def named(tensor: int, name: str, container: str = "") -> Operator:
    return Operator("VAR_HANDLE", (), (tensor,), {"container": container, "shared_name": name})


READ, ASSIGN, ADD = "READ_VARIABLE", "ASSIGN_VARIABLE", "ADD"
FIRST = np.array([[7, 8]], np.int8)


def initial(name: str = "sum", container: str = "") -> SubGraph:
    tensors = [replace(codes("first"), data=FIRST), handle("there"), replace(codes("spare"), data=FIRST)]
    return SubGraph(tensors, [named(1, name, container), Operator(ASSIGN, (1, 0), ())], [], [], "initial")


def streaming() -> Model:
    """The state is tensor 0, its next value 1: sum = sum + x; the result is the sum, twice."""
    tensors = [codes("before"), codes("after"), codes("x"), handle("h"), codes("y")]
    operators = [
        *(call(), named(3, "sum"), Operator(READ, (3,), (0,))),
        *(Operator(ADD, (0, 2), (1,)), Operator(ASSIGN, (3, 1), ()), Operator(ADD, (1, 1), (4,))),
    ]  # fmt: skip
    return Model([SubGraph(tensors, operators, [2], [4], "main"), initial()])


def test_a_state_is_the_last_input_and_output_and_begins_with_its_constant() -> None:
    subgraph, (state,) = without_variables(streaming())
    assert (subgraph.inputs, subgraph.outputs) == ([2, 0], [4, 1])
    assert [each.name for each in subgraph.operators] == [ADD, ADD]
    assert (state.name, state.before, state.after) == ("sum", 0, 1)
    assert state.first is not None
    assert state.first.tolist() == FIRST.tolist()
    assert [tensor.name for tensor in subgraph.tensors] == ["sum", "after", "x", "", "y"]


def test_a_variable_without_a_name_is_called_as_the_tensor_that_it_is_read_as() -> None:
    model = streaming()
    model.subgraphs[0].operators[1] = named(3, "", "inside")
    model.subgraphs[1] = initial("", "inside")
    assert [each.name for each in without_variables(model)[1]] == ["before"]


def changed(model: Model, place: int, **words: object) -> None:
    operators = model.subgraphs[0].operators
    operators[place] = replace(operators[place], **words)  # type: ignore[arg-type]


def read_again(quantization: Quantization, shape: tuple[int, ...] = (1, 2)) -> Callable[[Model], None]:
    """Behind the assignment, and added to itself instead of what was assigned."""

    def change(model: Model) -> None:
        model.subgraphs[0].tensors.append(codes("again", quantization, shape))
        model.subgraphs[0].operators[5:] = [Operator(READ, (3,), (5,)), Operator(ADD, (5, 5), (4,))]

    return change


def test_what_is_read_behind_its_assignment_is_what_was_assigned() -> None:
    model = streaming()
    read_again(Q)(model)
    model.subgraphs[0].outputs.append(5)
    subgraph, _ = without_variables(model)
    assert subgraph.operators[1].inputs == (1, 1)
    assert subgraph.outputs == [4, 1, 1]


def test_what_is_assigned_behind_that_is_what_was_read() -> None:
    model = streaming()
    read_again(Q)(model)
    model.subgraphs[0].operators.append(Operator(ASSIGN, (3, 5), ()))
    assert [each.after for each in without_variables(model)[1]] == [1]


def test_a_variable_that_is_only_assigned_keeps_nothing() -> None:
    model = streaming()
    del model.subgraphs[0].operators[2]
    subgraph, states = without_variables(model)
    assert (states, subgraph.inputs, subgraph.outputs) == ([], [2], [4])


def test_a_variable_that_is_assigned_what_it_was_read_as_stays() -> None:
    model = streaming()
    changed(model, 4, inputs=(3, 0))
    assert [(each.before, each.after) for each in without_variables(model)[1]] == [(0, 0)]


def without_its_number(model: Model) -> None:
    changed(model, 0, options={})


def assigned_nothing(model: Model) -> None:
    changed(model, 4, inputs=(3, -1))


def a_text_for_a_number(model: Model) -> None:
    changed(model, 0, options={"init_subgraph_index": "1"})


def read_with_handle(index: int) -> Callable[[Model], None]:
    return lambda model: changed(model, 2, inputs=(index,))


def more_of(place: int, **words: object) -> Callable[[Model], None]:
    return lambda model: changed(model, place, **words)


def first_beyond(place: int, **words: object) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        operators = model.subgraphs[1].operators
        operators[place] = replace(operators[place], **words)  # type: ignore[arg-type]

    return change


def keeps_beside(model: Model) -> None:
    """Tensor 5, which the last operator reads, keeps a state of its own."""
    model.subgraphs[0].tensors.append(replace(codes("cell"), is_variable=True))
    changed(model, 5, inputs=(5, 1))


def two_keep_beside(model: Model) -> None:
    keeps_beside(model)
    model.subgraphs[0].tensors.append(replace(codes("hidden"), is_variable=True))
    changed(model, 5, inputs=(6, 5))


def keeps_and_reads(model: Model) -> None:
    tensors = model.subgraphs[0].tensors
    tensors[0] = replace(tensors[0], is_variable=True)


def two_as_one(model: Model) -> None:
    """A second variable is read as the tensor of the first."""
    main, first = model.subgraphs
    main.tensors.append(handle("g"))
    main.operators[3:3] = [named(5, "other"), Operator(READ, (5,), (0,))]
    first.tensors.append(handle("more"))
    first.operators += [named(3, "other"), Operator(ASSIGN, (3, 0), ())]


def first_of_another_shape(model: Model) -> None:
    model.subgraphs[1].tensors[0] = replace(codes("first", shape=(2, 1)), data=FIRST.T)


def kept_in_another_shape(model: Model) -> None:
    model.subgraphs[0].tensors[1] = codes("after", shape=(2, 1))


def another_subgraph(model: Model) -> None:
    model.subgraphs.append(SubGraph([], [], [], []))


def first_computes(model: Model) -> None:
    model.subgraphs[1].operators.append(Operator(ADD, (0, 0), (2,)))


REFUSED: dict[str, tuple[Callable[[Model], None], str]] = {
    "read with other scales": (read_again(OTHER), "variable 'sum' is read as 'again', with other scales than it has"),
    "read in another shape": (
        read_again(Q, (2, 1)),
        "variable 'sum' is kept as i8[1, 2] ('after') and as i8[2, 1] ('again')",
    ),
    "no initial subgraph is named": (without_its_number, "CALL_ONCE calls subgraph 0"),
    "its number is a text": (a_text_for_a_number, "CALL_ONCE calls subgraph 1"),
    "its number is that of none": (more_of(0, options={"init_subgraph_index": 2}), "CALL_ONCE calls subgraph 2"),
    "assigned nothing": (assigned_nothing, "variable 'sum' is assigned nothing"),
    "the first tensor is no handle": (read_with_handle(0), "tensor 'before' is no handle of a variable"),
    "nothing is no handle": (read_with_handle(-1), "tensor 'none' is no handle of a variable"),
    "a call of something": (more_of(0, inputs=(2,)), "CALL_ONCE has 1 operands and 0 results"),
    "a call that gives something": (more_of(0, outputs=(2,)), "CALL_ONCE has 0 operands and 1 results"),
    "a handle of something": (more_of(1, inputs=(2,)), "VAR_HANDLE has 1 operands and 1 results"),
    "two handles": (more_of(1, outputs=(3, 2)), "VAR_HANDLE has 0 operands and 2 results"),
    "two are read": (more_of(2, inputs=(3, 3)), "READ_VARIABLE has 2 operands and 1 results"),
    "read as two": (more_of(2, outputs=(0, 1)), "READ_VARIABLE has 1 operands and 2 results"),
    "two are assigned": (more_of(4, inputs=(3, 1, 1)), "ASSIGN_VARIABLE has 3 operands and 0 results"),
    "an assignment with a result": (more_of(4, outputs=(1,)), "ASSIGN_VARIABLE has 2 operands and 1 results"),
    "first: a handle of something": (first_beyond(0, inputs=(0,)), "VAR_HANDLE has 1 operands and 1 results"),
    "first: two handles": (first_beyond(0, outputs=(1, 0)), "VAR_HANDLE has 0 operands and 2 results"),
    "first: nothing is assigned": (first_beyond(1, inputs=(1, -1)), "subgraph 1 assigns what is no constant"),
    "first: to no handle": (first_beyond(1, inputs=(0, 0)), "subgraph 1 assigns what is no constant"),
    "first: what is no constant": (first_beyond(1, inputs=(1, 1)), "subgraph 1 assigns what is no constant"),
    "first: three operands": (first_beyond(1, inputs=(1, 0, 0)), "ASSIGN_VARIABLE has 3 operands and 0 results"),
    "first: a result": (first_beyond(1, outputs=(0,)), "ASSIGN_VARIABLE has 2 operands and 1 results"),
    "another variable is begun": (more_of(1, options={"shared_name": "x"}), "variable 'x' is read before it has"),
    "one of a container": (more_of(1, options={"container": "c", "shared_name": "x"}), "variable 'c/x' is read before"),
    "read as an input": (more_of(2, outputs=(2,)), "tensor 'x' is made twice"),
    "first: another shape": (first_of_another_shape, "variable 'sum' is kept as i8[2, 1] ('first') and as i8[1, 2]"),
    "assigned another shape": (kept_in_another_shape, "variable 'sum' is kept as i8[1, 2] ('before') and as i8[2, 1]"),
    "another subgraph": (another_subgraph, "the file has 3 subgraphs"),
    "first: computes": (first_computes, "subgraph 1, which CALL_ONCE runs, has ADD"),
    "two variables as one tensor": (two_as_one, "tensor 'before' is made twice"),
    "another keeps a state beside": (keeps_beside, "tensor 'cell' keeps a state beside those of variables"),
    "the first of those that do is named": (two_keep_beside, "tensor 'cell' keeps a state beside"),
    "the first tensor keeps one": (keeps_and_reads, "tensor 'sum' keeps a state beside those of variables"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_state_of_a_variable_is_refused(case: str) -> None:
    change, message = REFUSED[case]
    model = streaming()
    change(model)
    with pytest.raises(FileError) as caught:
        without_variables(model)
    assert str(caught.value).startswith(message)


def test_an_operator_that_keeps_a_state_alone_is_read_as_it_is() -> None:
    """As an LSTM over whole sequences."""
    main = SubGraph([replace(codes("cell"), is_variable=True), codes("y")], [Operator(ADD, (-1, 0), (1,))], [], [1])
    assert without_variables(Model([main])) == (main, [])


# ---- SVDF, whose state is a tensor that it changes


def filters(state: int = 0, name: str = "kept") -> Model:
    """SVDF of x (tensor 1), with its state as tensor 0, and again on its result with the state 5."""
    tensors = [codes(each) for each in (name, "x", "y", "w", "z", "more")]
    tensors = [replace(each, is_variable=i in (state, 5)) for i, each in enumerate(tensors)]
    operators = [Operator("SVDF", (1, 3, 3, -1, state), (2,)), Operator("SVDF", (2, 3, 3, -1, 5), (4,))]
    return Model([SubGraph(tensors, operators, [1], [4])])


def test_a_tensor_that_an_operator_changes_is_an_input_and_what_it_becomes_an_output() -> None:
    subgraph, states = without_variables(filters())
    assert (subgraph.inputs, subgraph.outputs) == ([1, 0, 5], [4, 6, 7])
    assert [each.outputs for each in subgraph.operators] == [(2, 6), (4, 7)]
    assert [tensor.name for tensor in subgraph.tensors[6:]] == ["kept.next", "more.next"]
    assert states == [Variable("kept", 0, 6, None), Variable("more", 5, 7, None)]
    assert changes(subgraph) == [(0, 6), (5, 7)]
    assert [tensor.name for tensor in without_variables(filters(name=""))[0].tensors[6:]] == ["", "more.next"]


def test_the_file_may_have_tensors_for_what_they_become() -> None:
    subgraph, states = without_variables(filters(), {0: 3})
    assert [each.outputs for each in subgraph.operators] == [(2, 3), (4, 6)]
    assert [(each.before, each.after) for each in states] == [(0, 3), (5, 6)]


@pytest.mark.parametrize(
    ("place", "words", "index"),
    [
        (0, {"inputs": (1, 3, 3, -1)}, -1),
        (0, {"inputs": (1, 3, 3, -1, -1)}, -1),
        (0, {"inputs": (1, 3, 3, -1, 1)}, 1),
        (0, {"outputs": ()}, -1),
        (0, {"outputs": (2, 3)}, -1),
        (1, {"inputs": (2, 3, 3, -1, 0)}, -1),
    ],
)
def test_an_operator_without_a_variable_tensor_of_its_own_is_refused(
    place: int, words: dict[str, object], index: int
) -> None:
    """Though all tensors but number `index` are variable."""
    model = filters()
    tensors = model.subgraphs[0].tensors
    tensors[1:] = [replace(each, is_variable=i != index) for i, each in enumerate(tensors[1:], 1)]
    changed(model, place, **words)
    with pytest.raises(FileError, match="SVDF has no variable tensor of its own as operand 4"):
        without_variables(model)


# ---- and back


@pytest.mark.parametrize("model", [streaming(), filters()], ids=["a variable", "operators"])
def test_a_file_that_is_written_again_is_read_the_same(model: Model) -> None:
    subgraph, states = without_variables(model)
    results = subgraph.outputs[: len(subgraph.outputs) - len(states)]
    again, found = without_variables(Model(with_variables(subgraph, states, results)))
    operators = [[(each.name, each.inputs, each.outputs[:1]) for each in of.operators] for of in (again, subgraph)]
    assert operators[0] == operators[1]
    assert (again.inputs, again.outputs[: len(results)]) == (subgraph.inputs, results)
    assert [(each.name, each.before) for each in found] == [(each.name, each.before) for each in states]
    kept = [each.is_variable for each in without_variables(model)[0].tensors]
    assert [each.is_variable for each in again.tensors[: len(kept)]] == kept
    assert [again.tensors[one.after].name for one in found] == [subgraph.tensors[each.after].name for each in states]
    for one, other in zip(found, states, strict=True):
        assert np.array_equal(one.first, other.first) if other.first is not None else one.first is None


def test_what_has_no_first_value_begins_with_codes_of_zero_and_no_size_is_open() -> None:
    tensors = [codes("s"), codes("t", None), codes("y"), Tensor("f", "f32", (2, 1)), Tensor("p", "i4", (3,))]
    tensors[2] = replace(tensors[2], shape_signature=(-1, 2))
    main = SubGraph(tensors, [Operator(ADD, (0, 1), (2,))], [3, 0, 1, 4], [2])
    states = [Variable(name, index, 2, None) for index, name in ((0, "s"), (1, "t"), (3, "s.variable"))]
    states.append(Variable("p", 4, 2, np.array([1, 2, -1], np.int8)))
    written, first = with_variables(main, states, [2])
    assert (written.inputs, written.outputs) == ([], [2])
    assert written.tensors[2].shape_signature is None
    assert [tensor.name for tensor in written.tensors[5:]] == [
        *("s.variable", "t.variable", "s.variable.variable", "p.variable")
    ]  # fmt: skip
    values = [np.asarray(tensor.data).tolist() for tensor in first.tensors[1::2]]
    assert values == [[[3, 3]], [[0, 0]], [[0.0], [0.0]], [0x21, 0x0F]]
    assert [str(np.asarray(tensor.data).dtype) for tensor in first.tensors[1::2]] == [
        "int8",
        "int8",
        "float32",
        "uint8",
    ]
    assert with_variables(main, [], [2])[0].tensors[2].shape_signature == (-1, 2)


def test_handles_have_names_that_no_other_tensor_has() -> None:
    tensors = [codes("s"), codes("y"), codes("s.variable"), codes("s.variable_")]
    main = SubGraph(tensors, [Operator(ADD, (0, 0), (1,))], [0, 2], [1])
    states = [Variable("s", 0, 1, None), Variable("s", 2, 1, None)]
    written, _ = with_variables(main, states, [1])
    assert [tensor.name for tensor in written.tensors[4:]] == ["s.variable__", "s.variable___"]


def kept_twice(states: list[Variable], subgraph: SubGraph) -> None:
    subgraph.operators.append(Operator(ADD, (0, 1), (3,)))


def read_beside(states: list[Variable], subgraph: SubGraph) -> None:
    subgraph.operators.append(Operator(ADD, (6, 1), (3,)))


def given_back(states: list[Variable], subgraph: SubGraph) -> None:
    subgraph.outputs.append(0)


def not_a_state(states: list[Variable], subgraph: SubGraph) -> None:
    del states[0]


def begun_otherwise(states: list[Variable], subgraph: SubGraph) -> None:
    states[0] = replace(states[0], first=FIRST)


def crossed(states: list[Variable], subgraph: SubGraph) -> None:
    states[:] = [replace(states[0], after=7), replace(states[1], after=6)]


@pytest.mark.parametrize("change", [kept_twice, read_beside, given_back, not_a_state, begun_otherwise, crossed])
def test_a_state_that_is_not_the_operators_own_is_not_written(
    change: Callable[[list[Variable], SubGraph], None],
) -> None:
    subgraph, states = without_variables(filters())
    change(states, subgraph)
    with pytest.raises(ExportError, match="cannot hold the state 'kept' of an operator"):
        with_variables(subgraph, states, [4])
